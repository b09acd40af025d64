//! What a device takes in memory, whatever it remembers besides: a city has a hundred thousand of them, with up to thirty
//! detectors each.

use crate::detect::{DetectorState, Memory};
use crate::device::DeviceState;

#[test]
fn the_memory_of_a_device_and_of_its_detectors_is_small() {
    assert!(size_of::<Memory>() <= 16, "{}", size_of::<Memory>());
    assert!(size_of::<DetectorState>() <= 32, "{}", size_of::<DetectorState>());
    assert!(size_of::<DeviceState>() <= 416, "{}", size_of::<DeviceState>());
}
