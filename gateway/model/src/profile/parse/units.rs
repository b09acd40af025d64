//! Units that turn into one another.

type Unit = (&'static str, f64, f64);

/// A quantity's units, each as `value * factor + shift` in the first unit of its group.
const GROUPS: &[&[Unit]] = &[
    // The inch is 25.4 mm by the international agreement of 1959.
    &[("mm", 1.0, 0.0), ("cm", 10.0, 0.0), ("m", 1_000.0, 0.0), ("in", 25.4, 0.0), ("ft", 304.8, 0.0)],
    &[("ms", 1.0, 0.0), ("s", 1_000.0, 0.0), ("min", 60_000.0, 0.0)],
    &[("degC", 1.0, 0.0), ("degF", 5.0 / 9.0, -160.0 / 9.0), ("K", 1.0, -273.15)],
    &[("Pa", 1.0, 0.0), ("hPa", 100.0, 0.0), ("mbar", 100.0, 0.0), ("kPa", 1_000.0, 0.0), ("bar", 100_000.0, 0.0)],
    &[("mV", 1.0, 0.0), ("V", 1_000.0, 0.0)],
    &[("mA", 1.0, 0.0), ("A", 1_000.0, 0.0)],
    &[("W", 1.0, 0.0), ("kW", 1_000.0, 0.0)],
    &[("var", 1.0, 0.0), ("kvar", 1_000.0, 0.0)],
    &[("VA", 1.0, 0.0), ("kVA", 1_000.0, 0.0)],
    &[("Wh", 1.0, 0.0), ("kWh", 1_000.0, 0.0)],
    &[("m/s", 1.0, 0.0), ("km/h", 1.0 / 3.6, 0.0)],
    &[("%", 1.0, 0.0), ("1", 100.0, 0.0)],
];

/// Factor and shift that turn a value in one unit into the other: `value * factor + shift`.
pub(super) fn conversion(from: &str, to: &str) -> Option<(f64, f64)> {
    let find = |group: &[Unit], name: &str| group.iter().find(|unit| unit.0 == name).copied();
    GROUPS.iter().find_map(|group| {
        let (_, from_factor, from_shift) = find(group, from)?;
        let (_, to_factor, to_shift) = find(group, to)?;
        Some((from_factor / to_factor, (from_shift - to_shift) / to_factor))
    })
}

/// The units that turn into this one.
pub(super) fn convertible_to(unit: &str) -> Vec<&'static str> {
    let group = GROUPS.iter().find(|group| group.iter().any(|known| known.0 == unit));
    group.map_or_else(Vec::new, |group| group.iter().map(|known| known.0).filter(|known| *known != unit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_means_the_same_after_its_unit_was_changed() {
        let check = |from: &str, to: &str, value: f64, expected: f64| {
            let (factor, shift) = conversion(from, to).unwrap();
            let converted = value * factor + shift;
            assert!((converted - expected).abs() < 1e-9, "{value} {from} became {converted} {to}, not {expected}");
        };
        check("cm", "mm", 12.5, 125.0);
        check("ft", "mm", 2.0, 609.6);
        check("degF", "degC", 212.0, 100.0);
        check("K", "degC", 273.15, 0.0);
        check("degC", "K", 20.0, 293.15);
        check("hPa", "kPa", 1_013.25, 101.325);
        check("mV", "V", 3_600.0, 3.6);
        check("A", "mA", 0.03, 30.0);
        check("kW", "W", 1.5, 1_500.0);
        check("kvar", "var", 0.5, 500.0);
        check("kVA", "VA", 0.5, 500.0);
        check("km/h", "m/s", 36.0, 10.0);
        check("1", "%", 0.5, 50.0);
    }

    #[test]
    fn units_of_different_quantities_do_not_convert() {
        assert_eq!(conversion("cm", "V"), None);
        assert_eq!(conversion("furlong", "mm"), None);
        assert_eq!(convertible_to("V"), ["mV"]);
        assert!(convertible_to("dBm").is_empty());
    }
}
