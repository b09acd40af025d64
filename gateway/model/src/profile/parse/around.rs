//! What must be so around a device: `around` of a detector.

use crate::document::Section;
use crate::profile::{Around, Downstream, Weather};

/// Reads `around` of a detector.
pub(super) fn read_around(section: &Section<'_>) -> Option<Around> {
    let around = section.section("around")?;
    let words = [("dry", Weather::Dry), ("wet", Weather::Wet), ("not_wet", Weather::NotWet)];
    let weather = around.choice("weather", &words);
    let downstream = around.choice("downstream", &[("high", Downstream::High), ("not_high", Downstream::NotHigh)]);
    if !around.has("weather") && !around.has("downstream") {
        let mend = "write `weather: dry`, `downstream: high`, or both";
        around.problem("", "", "this asks for nothing", mend);
    }
    around.finish();
    Some(Around { weather, downstream })
}
