//! The stories: first those that are nothing, then what is really wrong.

use kerbside_model::{MaskKind, Timestamp};

use super::super::{Span, Wants};
use super::life::{Board, Gas, Life};
use super::{DAY, HOUR, MINUTE, SECOND, Street, Truth, between};

/// One kind of story.
pub(super) struct Kind {
    pub(super) board: Board,
    pub(super) tell: fn(&mut Street, &mut Life),
}

const fn json(tell: fn(&mut Street, &mut Life)) -> Kind {
    Kind { board: Board::Json, tell }
}

const fn ctwing(tell: fn(&mut Street, &mut Life)) -> Kind {
    Kind { board: Board::Ctwing, tell }
}

pub(super) const KINDS: &[Kind] = &[
    json(lies_still),
    ctwing(lies_still),
    json(busy_road),
    ctwing(busy_road),
    json(season),
    ctwing(season),
    json(creeps_a_little),
    json(in_the_sun),
    json(contact_flutters),
    json(contact_bounces),
    ctwing(contact_bounces),
    json(history),
    json(bad_radio),
    json(replaced),
    json(stuck),
    json(no_gas_sensor),
    json(gas_sensor_warms_up),
    json(gas_spikes),
    ctwing(swapped_fields),
    json(diverted_traffic),
    json(parade),
    json(opened),
    ctwing(opened),
    json(lifted),
    json(slid),
    ctwing(slid),
    json(gone),
    json(left_open),
    ctwing(left_open),
    json(open_too_long),
    json(stepped),
    ctwing(stepped),
    json(creeps),
    json(loose),
    ctwing(loose),
    json(loose_without_counter),
    json(water),
    json(flooded_and_silent),
    json(methane),
    json(hydrogen_sulphide),
    json(carbon_monoxide),
    json(no_oxygen),
    json(gas_at_an_opening),
    json(tampered),
    json(dies),
];

// --- nothing is wrong

fn lies_still(street: &mut Street, life: &mut Life) {
    street.trap("lies askew, moves with the sun", life, &[], life.span);
}

fn busy_road(street: &mut Street, life: &mut Life) {
    life.hits_a_day *= 10.0;
    street.trap("wheels", life, &[], life.span);
}

/// 3,957 wells in two months (Shifeng): every well once a fortnight, with a permit from ten minutes before.
fn season(street: &mut Street, life: &mut Life) {
    let mut at = life.span.from.plus(DAY * 2);
    while at.plus(DAY) < life.span.until {
        let open = Span::of(
            at.plus(HOUR.mul_f64(between(&mut street.chance, 8.0, 15.0))),
            MINUTE.mul_f64(between(&mut street.chance, 15.0, 180.0)),
        );
        let span = Span { from: open.from.minus(MINUTE * 10), until: open.until.plus(MINUTE * 20) };
        street.mask(life, MaskKind::Permit, span);
        street.trap("opened with a permit", life, &[], span);
        life.open.push(open);
        at = at.plus(DAY * 14);
    }
}

/// 0.03 degrees a day is less than a degree a month.
fn creeps_a_little(street: &mut Street, life: &mut Life) {
    life.creep_deg_a_day = 0.03;
    street.trap("creeps by a degree a month", life, &[], life.span);
}

fn in_the_sun(street: &mut Street, life: &mut Life) {
    life.heat_deg = between(&mut street.chance, 0.9, 1.4);
    street.trap("heat", life, &[], life.span);
}

/// A wet contact opens and shuts for some seconds at a time, for hours.
fn contact_flutters(street: &mut Street, life: &mut Life) {
    for _ in 0..3 {
        let spell = Span::of(street.any_moment(), HOUR.mul_f64(between(&mut street.chance, 0.2, 1.0)));
        let mut at = spell.from;
        while spell.has(at) {
            let open = SECOND.mul_f64(between(&mut street.chance, 1.0, 20.0));
            life.contact.push(Span::of(at, open));
            at = at.plus(open).plus(SECOND.mul_f64(between(&mut street.chance, 5.0, 60.0)));
        }
        street.trap("a wet contact flutters", life, &[], Span { until: spell.until.plus(HOUR), ..spell });
    }
}

fn contact_bounces(street: &mut Street, life: &mut Life) {
    for _ in 0..20 {
        let open = Span::of(street.any_moment(), SECOND.mul_f64(between(&mut street.chance, 1.0, 3.0)));
        street.trap("a contact bounces", life, &[], Span::of(open.from, MINUTE * 2));
        life.contact.push(open);
    }
}

/// The radio is away for half a day; an opening in it is long over when it is told.
fn history(street: &mut Street, life: &mut Life) {
    let kept = Span::of(street.any_moment(), HOUR * 12);
    life.open.push(Span::of(kept.from.plus(HOUR * 3), HOUR * 2));
    life.keeps = Some(kept);
    let told = Span { from: kept.until, until: kept.until.plus(HOUR * 3) };
    street.trap("history that comes late", life, &["displaced", "settled", "gas"], told);
    // That it is silent for so long is true.
    street.event(
        life,
        Truth {
            span: kept,
            ..Truth { any_of: &["silent"], wants: Wants::Alarm, within: HOUR * 12, ..nothing("radio away") }
        },
    );
}

fn bad_radio(street: &mut Street, life: &mut Life) {
    (life.twice, life.late) = (0.3, 0.15);
    street.trap("messages twice, late and out of order", life, &[], life.span);
}

/// A new board in the same cover: it lies differently, and counts from 0.
fn replaced(street: &mut Street, life: &mut Life) {
    let at = street.moment();
    let work = Span { from: at.minus(HOUR), until: at.plus(HOUR) };
    life.shakes.get_or_insert(20.0);
    life.counts_anew_at = Some(at);
    life.steps.push((at, between(&mut street.chance, 5.0, 9.0)));
    life.open.push(Span { from: at.minus(MINUTE * 30), until: at });
    street.mask(life, MaskKind::Permit, work);
    street.trap("device replaced under a permit", life, &[], Span { until: at.plus(DAY * 10), ..work });
}

fn stuck(street: &mut Street, life: &mut Life) {
    life.is_stuck = true;
    street.trap("sensor stuck", life, &[], life.span);
}

fn no_gas_sensor(street: &mut Street, life: &mut Life) {
    life.has_gas_sensor = false;
    street.trap("no gas sensor", life, &["gas"], life.span);
}

fn gas_sensor_warms_up(street: &mut Street, life: &mut Life) {
    (life.has_gas_sensor, life.warms_up) = (true, true);
    life.hits_a_day = 0.0;
    street.trap("gas sensor warms up", life, &[], life.span);
}

fn gas_spikes(street: &mut Street, life: &mut Life) {
    life.has_gas_sensor = true;
    life.hits_a_day = 0.0;
    for number in 0..6 {
        let at = life.span.from.plus(DAY * (3 + 6 * number) + DAY.mul_f64(between(&mut street.chance, 0.0, 5.0)));
        let hour = at.since(life.span.from).as_secs() as i64 / 3_600;
        life.gas_spikes.push(hour);
        street.trap("one wild gas reading", life, &[], Span::of(at.minus(HOUR), HOUR * 3));
    }
}

fn swapped_fields(street: &mut Street, life: &mut Life) {
    life.swaps = true;
    street.event(
        life,
        Truth { span: life.span, any_of: &["sensor_fault"], wants: Wants::Nothing, ..nothing("radio fields swapped") },
    );
    street.trap("radio fields swapped", life, &["displaced", "settled", "silent"], life.span);
}

/// Roadworks elsewhere bring half as much again for two weeks.
fn diverted_traffic(street: &mut Street, life: &mut Life) {
    life.shakes.get_or_insert(30.0);
    let span = Span::of(street.moment(), DAY * 10);
    life.shaken.push((span, 1.5));
    street.trap("half as much traffic again", life, &["settled"], span);
}

fn parade(street: &mut Street, life: &mut Life) {
    life.shakes.get_or_insert(30.0);
    let begin = street.moment();
    let span = Span::of(begin, MINUTE * 60);
    life.shaken.push((span, 20.0));
    street.trap("one wild hour", life, &["settled"], Span::of(begin, HOUR * 3));
}

// --- something is

fn nothing<'a>(kind: &'static str) -> Truth<'a> {
    let span = Span { from: Timestamp(0), until: Timestamp(0) };
    Truth { kind, any_of: &[], also: &[], span, within: HOUR, wants: Wants::Case }
}

fn opening(street: &mut Street) -> Span {
    Span::of(street.moment(), HOUR.mul_f64(between(&mut street.chance, 0.5, 8.0)))
}

fn opened(street: &mut Street, life: &mut Life) {
    let span = opening(street);
    life.open.push(span);
    street.event(
        life,
        Truth { span, any_of: &["displaced"], within: MINUTE * 6, also: &["settled"], ..nothing("opened") },
    );
}

/// Straight off, lying flat beside the hole.
fn lifted(street: &mut Street, life: &mut Life) {
    life.open_deg = None;
    life.echo_mm = street.chance.bool().then_some(1_800.0);
    let span = opening(street);
    life.open.push(span);
    street.event(
        life,
        Truth {
            span,
            any_of: &["displaced"],
            also: &["sensor_fault"],
            within: MINUTE * 7,
            ..nothing("lifted straight off")
        },
    );
}

/// By twelve degrees and more, with the contact shut.
fn slid(street: &mut Street, life: &mut Life) {
    let at = street.moment();
    let step = between(&mut street.chance, 12.0, 30.0);
    life.steps.push((at, step));
    let span = Span { from: at, until: life.span.until };
    let within = HOUR * 2;
    street.event(
        life,
        Truth { span, any_of: &["displaced"], also: &["settled"], within, ..nothing("slid by 12 degrees and more") },
    );
}

fn gone(street: &mut Street, life: &mut Life) {
    life.open_deg = Some(between(&mut street.chance, 95.0, 175.0));
    let span = opening(street);
    life.open.push(span);
    street.event(life, Truth { span, any_of: &["displaced"], within: MINUTE * 6, ..nothing("removed") });
}

/// The crew goes home and leaves it open.
fn left_open(street: &mut Street, life: &mut Life) {
    let open = Span::of(street.moment(), HOUR * 12);
    let permit = Span { from: open.from.minus(MINUTE * 10), until: open.from.plus(HOUR * 3) };
    life.open.push(open);
    street.mask(life, MaskKind::Permit, permit);
    let span = Span { from: permit.until, until: open.until };
    let within = MINUTE * 2;
    street.event(life, Truth { span, any_of: &["displaced"], within, ..nothing("left open behind a permit") });
}

/// Longer than the four hours that a permit explains.
fn open_too_long(street: &mut Street, life: &mut Life) {
    let open = Span::of(street.moment(), HOUR * 7);
    let permit = Span { from: open.from.minus(MINUTE * 10), until: open.from.plus(HOUR * 10) };
    life.open.push(open);
    street.mask(life, MaskKind::Permit, permit);
    let span = Span { from: open.from.plus(HOUR * 4), until: open.until };
    let within = MINUTE * 8;
    street.event(life, Truth { span, any_of: &["displaced"], within, ..nothing("open too long under a permit") });
}

fn stepped(street: &mut Street, life: &mut Life) {
    let at = street.moment();
    let step = between(&mut street.chance, 4.0, 8.0);
    life.steps.push((at, step));
    let span = Span { from: at, until: life.span.until };
    let within = life.board.interval() * 8;
    street.event(life, Truth { span, any_of: &["settled"], within, ..nothing("settled by 4 to 8 degrees") });
}

fn creeps(street: &mut Street, life: &mut Life) {
    life.creep_deg_a_day = 0.1;
    let span = life.span;
    street
        .event(life, Truth { span, any_of: &["settled"], within: DAY * 35, ..nothing("creeps by 0.1 degrees a day") });
    street.trap("creeps by 0.1 degrees a day", life, &["displaced"], span);
}

fn loose(street: &mut Street, life: &mut Life) {
    let (from, times) = (street.moment(), between(&mut street.chance, 3.0, 6.0));
    life.shakes = Some(between(&mut street.chance, 10.0, 60.0));
    let span = Span { from, until: life.span.until };
    life.shaken.push((span, times));
    let within = DAY * 3;
    street.event(life, Truth { span, any_of: &["settled"], within, ..nothing("loose") });
}

/// It rocks under every bus, and its board has no counter.
fn loose_without_counter(street: &mut Street, life: &mut Life) {
    life.shakes = None;
    let span = Span { from: street.moment(), until: life.span.until };
    let mut at = span.from;
    while span.has(at) {
        let hour = (at.0 / 3_600_000 + 8).rem_euclid(24);
        let minutes = if (6..22).contains(&hour) { 4.0 } else { 60.0 };
        life.hits.push(at);
        at = at.plus(MINUTE.mul_f64(minutes * between(&mut street.chance, 0.5, 1.5)));
    }
    let within = DAY * 2;
    street.event(life, Truth { span, any_of: &["settled"], within, ..nothing("loose, without a counter") });
}

fn water(street: &mut Street, life: &mut Life) {
    for number in 0..4 {
        let begin =
            life.span.from.plus(DAY * 4 + DAY.mul_f64(between(&mut street.chance, 0.0, 5.0)) + DAY * 8 * number);
        let span = Span::of(begin, HOUR.mul_f64(between(&mut street.chance, 3.0, 20.0)));
        life.water.push(span);
        let truth =
            Truth { span, any_of: &["flooded"], also: &["flooded_and_silent"], ..nothing("water under the cover") };
        street.event(life, Truth { within: HOUR * 2, wants: Wants::Alarm, ..truth });
    }
}

/// The radio drowns with it.
fn flooded_and_silent(street: &mut Street, life: &mut Life) {
    let span = Span::of(street.moment(), HOUR * 14);
    life.water.push(span);
    life.outages.push(Span { from: span.from.plus(MINUTE * 75), until: span.until });
    let also = &["flooded", "silent"];
    let within = HOUR * 6;
    let until = span.until.plus(HOUR * 2);
    street.event(
        life,
        Truth {
            span: Span { until, ..span },
            any_of: &["flooded_and_silent"],
            also,
            within,
            ..nothing("flooded, then silent")
        },
    );
}

fn gas(street: &mut Street, life: &mut Life, kind: &'static str, point: &'static str, values: (f64, f64)) {
    life.has_gas_sensor = true;
    let span = Span::of(street.moment(), HOUR.mul_f64(between(&mut street.chance, 4.0, 12.0)));
    life.gas = Some(Gas { point, span, values });
    street.event(life, Truth { span, any_of: &["gas"], within: HOUR * 3, ..nothing(kind) });
}

fn methane(street: &mut Street, life: &mut Life) {
    gas(street, life, "methane", "ch4_lel_percent", (11.0, 40.0));
}

fn hydrogen_sulphide(street: &mut Street, life: &mut Life) {
    gas(street, life, "hydrogen sulphide", "h2s_mg_m3", (11.0, 60.0));
}

fn carbon_monoxide(street: &mut Street, life: &mut Life) {
    gas(street, life, "carbon monoxide", "co_mg_m3", (32.0, 150.0));
}

fn no_oxygen(street: &mut Street, life: &mut Life) {
    gas(street, life, "too little oxygen", "o2_percent", (14.0, 19.3));
}

/// Gas where a crew opens with a permit: the permit explains the opening, and no gas.
fn gas_at_an_opening(street: &mut Street, life: &mut Life) {
    life.has_gas_sensor = true;
    let open = Span::of(street.moment(), HOUR * 3);
    life.open.push(open);
    let permit = Span { from: open.from.minus(MINUTE * 10), until: open.until.plus(MINUTE * 20) };
    street.mask(life, MaskKind::Permit, permit);
    life.gas = Some(Gas { point: "ch4_lel_percent", span: open, values: (12.0, 30.0) });
    let within = MINUTE * 6;
    street.event(life, Truth { span: open, any_of: &["gas"], within, ..nothing("gas at an open cover") });
}

fn tampered(street: &mut Street, life: &mut Life) {
    let span = Span::of(street.moment(), HOUR * 20);
    life.tamper.push(span);
    street.event(life, Truth { span, any_of: &["tampered"], within: HOUR * 2, ..nothing("tampered with") });
}

fn dies(street: &mut Street, life: &mut Life) {
    let from = street.moment();
    life.dies_at = Some(from);
    let span = Span { from, until: life.span.until };
    street.event(life, Truth { span, any_of: &["silent"], within: DAY, ..nothing("falls silent") });
}
