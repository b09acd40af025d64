//! Floods and everything that a depth sensor over a street takes for one.

use std::path::Path;

use fastrand::Rng;

/// mm in an inch.
const INCH: f64 = 25.4;
/// A sensor over dry ground reads a few mm (FloodNet takes up to 10 mm for noise).
const FLOOR_MM: f64 = 3.0;

/// A depth over time, beginning and ending dry.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    /// Seconds since the begin, and depth in mm.
    profile: Vec<(f64, f64)>,
    pub(crate) is_tidal: bool,
}

impl Flood {
    /// A flood by rain: durations and depths spread as FloodNet's are (domain figures: onset to peak 2 to 100 min, drain
    /// 6 to 246 min, rise at most 56 mm a minute in nineteen of twenty).
    pub(crate) fn made(number: u64) -> Flood {
        let mut chance = Rng::with_seed(number);
        let peak = 60.0 + 500.0 * chance.f64();
        let onset = 60.0 * (peak / 50.0).max(4.0 + 40.0 * chance.f64() * chance.f64());
        let drain = 60.0 * (10.0 + 100.0 * chance.f64());
        let profile = vec![
            (0.0, 0.0),
            (onset * 0.6, peak * 0.5),
            (onset, peak),
            (onset + 120.0, peak * 0.97),
            (onset + drain * 0.5, peak * 0.3),
            (onset + drain, 0.0),
        ];
        Flood { profile, is_tidal: false }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.profile.last().map_or(0.0, |(at, _)| *at)
    }

    /// Depth in mm so many seconds after the begin.
    pub(crate) fn depth(&self, at: f64) -> f64 {
        let after = self.profile.partition_point(|(time, _)| *time <= at);
        let (Some((from, low)), Some((until, high))) =
            (after.checked_sub(1).map(|i| self.profile[i]), self.profile.get(after))
        else {
            return 0.0;
        };
        low + (high - low) * (at - from) / (until - from)
    }

    /// When it first reaches a depth, in seconds since the begin.
    pub(crate) fn reaches(&self, depth: f64) -> Option<f64> {
        let above = self.profile.iter().position(|(_, mm)| *mm >= depth)?;
        let (until, high) = self.profile[above];
        let Some((from, low)) = above.checked_sub(1).map(|before| self.profile[before]) else { return Some(until) };
        Some(from + (until - from) * (depth - low) / (high - low))
    }
}

/// The floods of NYC Open Data's table, and which sensors stand under the tide.
pub(crate) fn measured(folder: &Path) -> Vec<Flood> {
    let table = |name: &str| {
        let file = folder.join(name);
        csv::Reader::from_path(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let column = |reader: &mut csv::Reader<std::fs::File>, name: &str| {
        reader.headers().unwrap().iter().position(|header| header == name).unwrap_or_else(|| panic!("column {name}"))
    };
    let mut sensors = table("sensor-metadata.csv");
    let (id, tide) = (column(&mut sensors, "sensor_id"), column(&mut sensors, "tidally_influenced"));
    let tidal: Vec<String> =
        sensors.records().map(Result::unwrap).filter(|row| &row[tide] == "Yes").map(|row| row[id].to_owned()).collect();
    let mut events = table("flood-events.csv");
    let sensor = column(&mut events, "sensor_id");
    let depths = column(&mut events, "flood_profile_depth_inches");
    let times = column(&mut events, "flood_profile_time_secs");
    let numbers = |text: &str| -> Vec<f64> { serde_json::from_str(text).unwrap() };
    let mut floods = Vec::new();
    for row in events.records().map(Result::unwrap) {
        let depths = numbers(&row[depths]);
        let mut profile: Vec<(f64, f64)> =
            numbers(&row[times]).into_iter().zip(depths).map(|(at, inches)| (at, inches * INCH)).collect();
        profile.dedup_by_key(|(at, _)| *at);
        floods.push(Flood { profile, is_tidal: tidal.iter().any(|id| *id == row[sensor]) });
    }
    floods
}

/// What a sensor over dry ground reads, mm.
pub(crate) fn floor_noise(chance: &mut Rng) -> f64 {
    (chance.f64() + chance.f64() + chance.f64() - 1.5) * 2.0 * FLOOR_MM
}

/// The classes of noise that FloodNet labels, condensation, and what grows slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    /// One high point: a splash, a rat, a passer-by. Twice a day.
    Blip,
    /// High and low in turn for a while: traffic that queues. Once a week.
    PulseChain,
    /// A plateau that is there at once: a parked car, a bin. Twice a week, up to 8 h.
    Box,
    /// Rises over hours and melts over a day. Once a month, up to 15 cm.
    Snow,
    /// Two or three readings of a constant near distance. Twice a week.
    Condensation,
    /// Anything between, without an order. Once a month, for a quarter of an hour at most.
    Something,
    /// Spider webs, leaves and mud: grows over hours, stays for days. Once in two months.
    Debris,
}

/// What FloodNet labels, and condensation.
pub(crate) const LABELLED: [Noise; 6] =
    [Noise::Blip, Noise::PulseChain, Noise::Box, Noise::Snow, Noise::Condensation, Noise::Something];
/// And what no depth can tell from water that rises slowly.
pub(crate) const NOISE_CLASSES: [Noise; 7] =
    [Noise::Blip, Noise::PulseChain, Noise::Box, Noise::Snow, Noise::Condensation, Noise::Something, Noise::Debris];

impl Noise {
    fn per_month(self, month: &mut Rng) -> u32 {
        match self {
            Noise::Debris => u32::from(month.bool()),
            Noise::Blip => 60,
            Noise::PulseChain => 4,
            Noise::Box | Noise::Condensation => 8,
            Noise::Snow | Noise::Something => 1,
        }
    }

    fn seconds(self, chance: &mut Rng) -> f64 {
        match self {
            Noise::Blip => 60.0,
            Noise::PulseChain => 600.0 + 3_000.0 * chance.f64(),
            Noise::Box => 600.0 + 28_200.0 * chance.f64(),
            Noise::Snow => 86_400.0 + 86_400.0 * chance.f64(),
            Noise::Condensation => 120.0 + 60.0 * chance.f64(),
            Noise::Something => 300.0 + 600.0 * chance.f64(),
            Noise::Debris => 86_400.0 * (1.0 + 3.0 * chance.f64()),
        }
    }

    /// Height in mm: between the least and the greatest, small ones more often; cars and bins are as they are.
    fn height(self, chance: &mut Rng) -> f64 {
        let (low, high): (f64, f64) = match self {
            Noise::Blip | Noise::PulseChain => (20.0, 1_500.0),
            Noise::Box => (100.0, 1_500.0),
            Noise::Snow => (20.0, 150.0),
            Noise::Condensation => (2_000.0, 3_000.0),
            Noise::Something => (100.0, 600.0),
            Noise::Debris => (30.0, 300.0),
        };
        match self {
            Noise::Box => low + (high - low) * chance.f64(),
            _ => low * (high / low).powf(chance.f64()),
        }
    }
}

/// Something that is no flood.
#[derive(Debug)]
pub(crate) struct Happening {
    noise: Noise,
    from: f64,
    seconds: f64,
    height: f64,
}

/// When what happens in a month.
pub(crate) fn month_of_noise(chance: &mut Rng, classes: &[Noise]) -> Vec<Happening> {
    let mut happenings = Vec::new();
    for noise in classes {
        for _ in 0..noise.per_month(chance) {
            let from = chance.f64() * 30.0 * 86_400.0;
            let (seconds, height) = (noise.seconds(chance), noise.height(chance));
            happenings.push(Happening { noise: *noise, from, seconds, height });
        }
    }
    happenings
}

/// The highest of what stands under the sensor, mm.
pub(crate) fn depth_of_noise(happenings: &[Happening], at: f64, chance: &mut Rng) -> f64 {
    let of = |happening: &Happening, chance: &mut Rng| {
        let after = at - happening.from;
        let height = happening.height;
        if !(0.0..happening.seconds).contains(&after) {
            return 0.0;
        }
        match happening.noise {
            Noise::Blip | Noise::Condensation => height,
            // Two minutes with something under it, two without.
            Noise::PulseChain => f64::from(u8::from(after % 240.0 < 120.0)) * height * (0.8 + 0.4 * chance.f64()),
            Noise::Box => height * (0.99 + 0.02 * chance.f64()),
            Noise::Snow => {
                let share = after / happening.seconds;
                height * if share < 0.2 { share / 0.2 } else { (1.0 - share) / 0.8 }
            }
            Noise::Something => height * chance.f64(),
            Noise::Debris => height * (after / 14_400.0).min(1.0) * (0.98 + 0.04 * chance.f64()),
        }
    };
    happenings.iter().map(|happening| of(happening, chance)).fold(0.0, f64::max)
}
