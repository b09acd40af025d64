//! What a profile says of envelopes: points that come from them (`link: rssi`), and samples that stand in one.

use crate::document::Section;
use crate::envelope::{EnvelopeFormat, LinkField};
use crate::profile::{Origin, PayloadFormat, ValueType};

/// Reads `link`. Only a message comes in an envelope, and all that an envelope says of the link are numbers.
pub(super) fn read_link(section: &Section<'_>, payload: &PayloadFormat, value_type: ValueType) -> Origin {
    let fields = LinkField::ALL.map(|field| (field.name(), field));
    let field = section.choice("link", &fields).unwrap_or(LinkField::Rssi);
    if matches!(payload, PayloadFormat::Registers(_)) {
        section.problem("link", field.name(), "registers come in no envelope", "write `register:`");
    }
    if value_type != ValueType::Number {
        section.problem("link", field.name(), "what an envelope says of the link is a number", "leave `type` out");
    }
    Origin::Link(field)
}

/// Reads `envelope` of a sample: the frame is a whole message of a network server.
pub(super) fn read_envelope(section: &Section<'_>, payload: &PayloadFormat) -> Option<EnvelopeFormat> {
    let formats = EnvelopeFormat::ALL.map(|format| (format.name(), format));
    let format = section.choice("envelope", &formats)?;
    if matches!(payload, PayloadFormat::Registers(_)) {
        section.problem("envelope", format.name(), "registers come in no envelope", "leave it out");
    }
    if section.has("port") {
        section.problem("port", "", "the envelope names the port", "take one of the two out");
    }
    Some(format)
}

#[cfg(test)]
mod tests {
    use crate::document::Problems;
    use crate::envelope::{EnvelopeFormat, LinkField};
    use crate::profile::{Origin, Profile, parse_profile_text};

    /// A profile with this point and these keys in its sample, or its problems.
    fn parse(payload: &str, point: &str, sample: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: drain\nversion: 1\nkind: drain\nvendor: V\nmodel: M\npayload: {{format: {payload}}}\npoints:\n  \
             - {point}\n  - {{name: tilt_deg, path: tilt}}\nsamples:\n  \
             - {{name: good, json: {{tilt: 1}}, readings: {{tilt_deg: 1}}{sample}}}\n  \
             - {{name: bad, text: '{{', error: JSON}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("drain.yaml", &text, &problems);
        profile.ok_or_else(|| problems.into_sorted().iter().map(|problem| format!("{problem}\n")).collect())
    }

    #[test]
    fn a_point_may_come_from_the_envelope() {
        for field in LinkField::ALL {
            let point = format!("{{name: seen, link: {}}}", field.name());
            assert_eq!(parse("json", &point, "").unwrap().points[0].origin, Origin::Link(field));
        }
    }

    #[test]
    fn a_sample_may_stand_in_an_envelope() {
        let profile = parse("json", "{name: snr_db, link: snr}", ", envelope: ttn_v3").unwrap();
        assert_eq!(profile.samples[0].envelope, Some(EnvelopeFormat::TtnV3));
        assert_eq!(profile.samples[1].envelope, None);
    }

    #[test]
    fn what_no_envelope_can_give_is_said_where_it_stands() {
        for (payload, point, sample, words) in [
            ("json", "{name: snr_db, link: signal}", "", "points[0].link"),
            ("json", "{name: snr_db, link: snr, path: snr}", "", "says already where the value comes from"),
            ("json", "{name: heard, link: rssi, type: text}", "", "what an envelope says of the link is a number"),
            ("registers", "{name: snr_db, link: snr}", "", "registers come in no envelope"),
            ("json", "{name: snr_db, link: snr}", ", envelope: lora", "samples[0].envelope"),
            ("json", "{name: snr_db, link: snr}", ", envelope: ctwing, port: 5", "the envelope names the port"),
        ] {
            let problems = parse(payload, point, sample).expect_err(words);
            assert!(problems.contains(words), "{words}: {problems}");
        }
    }
}
