//! Turns the places that are due on a unit into the cheapest read requests that are allowed.
//!
//! Cheapest by the time that they take on the line: each request has a price of its own (its frame, the turn-around of
//! the unit, the silence between frames) and each register of an answer has one, so that a gap is read through where
//! that is cheaper than a second request. The best of all partitions is found by dynamic programming; it can never
//! cost more than reading run by run. Pure functions: nothing here survives anything, and there are no metrics.

use std::time::Duration;

use kerbside_model::RegisterTable;
use kerbside_model::profile::RegisterField;

use crate::modbus::link::{LinkTiming, Parity, SerialLine};

/// Most registers in one request (Modbus Application Protocol V1.1b3, sections 6.3 and 6.4).
pub const REGISTERS_MAX: u16 = 125;

/// Most coils or discrete inputs in one request (Modbus Application Protocol V1.1b3, sections 6.1 and 6.2).
pub const BITS_MAX: u16 = 2000;

/// Bytes of a request to read from the function code on: function, address, count.
const REQUEST_BYTES: u32 = 5;

/// Bytes of an answer from the function code on that are not data: function, byte count.
const ANSWER_BYTES: u32 = 2;

/// What stands behind a network port is not known. Plans are made as for the serial line that is there most often: a
/// device with a network port of its own loses a round trip now and then, a serial line would lose much more with a
/// plan for the other case.
const LINE_BEHIND_NETWORK: SerialLine = SerialLine { baud: 9_600, parity: Parity::None, stop_bits: 1 };

/// A run of adjacent registers, read with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Which of the four tables.
    pub table: RegisterTable,
    /// Address of the first register on the wire (0-based).
    pub address: u16,
    /// How many registers.
    pub count: u16,
}

impl Request {
    /// The same registers, by the function that the unit knows: holding and input registers come from `table`.
    pub(super) fn in_table(self, table: Option<RegisterTable>) -> Request {
        let is_register = matches!(self.table, RegisterTable::Holding | RegisterTable::Input);
        Request { table: table.filter(|_| is_register).unwrap_or(self.table), ..self }
    }

    /// The first address behind it; 65536 at the end of a table.
    pub(super) fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// Whether all of `other` lies in it.
    pub(super) fn contains(&self, other: &Request) -> bool {
        self.table == other.table && self.address <= other.address && other.end() <= self.end()
    }

    /// Whether their answers have the same length, and may have the same function.
    pub(super) fn looks_like(&self, other: &Request) -> bool {
        let is_bit = |request: &Request| matches!(request.table, RegisterTable::Coil | RegisterTable::Discrete);
        is_bit(self) == is_bit(other) && self.data_bytes() == other.data_bytes()
    }

    /// The bytes of data in its answer.
    fn data_bytes(&self) -> u32 {
        match self.table {
            RegisterTable::Coil | RegisterTable::Discrete => u32::from(self.count.div_ceil(8)),
            RegisterTable::Holding | RegisterTable::Input => 2 * u32::from(self.count),
        }
    }

    /// The bytes of request and answer on a link.
    pub(super) fn bytes(&self, timing: &LinkTiming) -> u32 {
        REQUEST_BYTES + ANSWER_BYTES + 2 * timing.overhead_bytes + self.data_bytes()
    }
}

/// What requests cost: the time that they keep the line, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    request_ns: u64,
    byte_ns: u64,
}

impl Cost {
    /// For the choice between plans. `turn_around` is the time from the end of a request to the beginning of its
    /// answer. Where no serial line is known, the most common one is assumed.
    pub fn of(timing: &LinkTiming, turn_around: Duration) -> Cost {
        if !timing.character.is_zero() {
            return Cost::on(timing, turn_around);
        }
        let (character, silence) = (LINE_BEHIND_NETWORK.character(), LINE_BEHIND_NETWORK.silence());
        let silence = silence.max(timing.silence);
        Cost::on(&LinkTiming { character, silence, overhead_bytes: timing.overhead_bytes }, turn_around)
    }

    /// For the forecast of a plan. Where no serial line is known, only turn-arounds and pauses are counted.
    pub fn on(timing: &LinkTiming, turn_around: Duration) -> Cost {
        let request_ns = nanoseconds(timing.wire_time(REQUEST_BYTES + ANSWER_BYTES)) + nanoseconds(turn_around);
        Cost { request_ns, byte_ns: nanoseconds(timing.character) }
    }

    /// How long one request keeps the line.
    pub fn time(&self, request: &Request) -> Duration {
        Duration::from_nanos(self.nanoseconds(request))
    }

    fn nanoseconds(&self, request: &Request) -> u64 {
        self.request_ns.saturating_add(u64::from(request.data_bytes()).saturating_mul(self.byte_ns))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// What a unit takes in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most registers; clamped to 1..=125.
    pub registers_max: u16,
    /// Most coils or discrete inputs; clamped to 1..=2000.
    pub bits_max: u16,
    /// Gaps of more unwanted registers than this are never read through.
    pub gap_max: u16,
    /// Every place is read by itself.
    pub one_point_per_request: bool,
}

impl Default for Limits {
    /// What the protocol allows.
    fn default() -> Limits {
        Limits {
            registers_max: REGISTERS_MAX,
            bits_max: BITS_MAX,
            gap_max: REGISTERS_MAX,
            one_point_per_request: false,
        }
    }
}

/// What was learned about a unit beyond its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Borders {
    /// A request that holds all of one of these is refused, or has no answer.
    pub refused: Vec<Request>,
    /// The longest requests by table that are taken, where these are shorter than the limits say.
    pub longest: [Option<u16>; 4],
}

/// What a plan must keep to, and what it is to save.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// What the unit takes.
    pub limits: Limits,
    /// What the line costs.
    pub cost: Cost,
    /// What was learned.
    pub borders: &'a Borders,
}

impl Rules<'_> {
    fn count_max(&self, table: RegisterTable) -> u32 {
        let limit = match table {
            RegisterTable::Coil | RegisterTable::Discrete => self.limits.bits_max.clamp(1, BITS_MAX),
            RegisterTable::Holding | RegisterTable::Input => self.limits.registers_max.clamp(1, REGISTERS_MAX),
        };
        u32::from(self.borders.longest[table as usize].unwrap_or(limit).min(limit))
    }
}

/// A request with the places that are wanted of it: what it is divided into when the unit refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) request: Request,
    /// Distinct places of fields, by address; never empty, and never divided.
    pub(super) places: Vec<Request>,
}

impl Piece {
    pub(super) fn around(places: &[Request]) -> Piece {
        let end = places.iter().map(Request::end).max().expect("a piece has places");
        let Request { table, address, .. } = places[0];
        let count = u16::try_from(end - u32::from(address)).expect("a piece is no longer than a table");
        Piece { request: Request { table, address, count }, places: places.to_vec() }
    }

    /// A place by itself.
    pub(super) fn alone(place: Request) -> Piece {
        Piece { request: place, places: vec![place] }
    }

    /// The place that ends last.
    pub(super) fn last_place(&self) -> Option<Request> {
        self.places.iter().copied().max_by_key(Request::end)
    }

    /// Two pieces with half of the places each, without the gap between them; nothing when there is one place only.
    pub(super) fn halves(&self) -> Option<[Piece; 2]> {
        if self.places.len() < 2 {
            return None;
        }
        let (first, second) = self.places.split_at(self.places.len() / 2);
        Some([Piece::around(first), Piece::around(second)])
    }

    /// One piece for each run of places without a gap; nothing when it has no gap.
    pub(super) fn runs(&self) -> Option<Vec<Piece>> {
        let mut runs = Vec::new();
        let mut begin = 0;
        let mut end = self.request.address.into();
        for (index, place) in self.places.iter().enumerate() {
            if u32::from(place.address) > end {
                runs.push(Piece::around(&self.places[begin..index]));
                begin = index;
            }
            end = place.end().max(end);
        }
        if runs.is_empty() {
            return None;
        }
        runs.push(Piece::around(&self.places[begin..]));
        Some(runs)
    }
}

/// The cheapest requests that read all fields within the rules. A field is never divided: one that is wider than the
/// limit has a request of its own.
pub fn plan(fields: &[RegisterField], rules: &Rules<'_>) -> Vec<Request> {
    pieces(&places(fields), rules).iter().map(|piece| piece.request).collect()
}

/// Where a field stands.
pub(super) fn place(field: &RegisterField) -> Request {
    Request { table: field.table, address: field.address, count: field.width() }
}

/// The distinct places of fields, by table and address.
pub(super) fn places(fields: &[RegisterField]) -> Vec<Request> {
    let mut places: Vec<Request> = fields.iter().map(place).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// The cheapest pieces with all of these places, which are distinct and sorted.
pub(super) fn pieces(places: &[Request], rules: &Rules<'_>) -> Vec<Piece> {
    if rules.limits.one_point_per_request {
        return places.chunks(1).map(Piece::around).collect();
    }
    let mut pieces = Vec::new();
    for of_table in places.chunk_by(|one, next| one.table == next.table) {
        cheapest(of_table, rules, &mut pieces);
    }
    pieces
}

/// The price of the first places, and where their last request begins.
#[derive(Clone, Copy)]
struct Best {
    cost_ns: u64,
    requests: u32,
    from: usize,
}

/// Some best plan has requests that are neighbours in the order of first addresses: a place inside another request is
/// read with it at no cost. So the best plan of the first n places is the best plan of fewer of them and one request.
fn cheapest(places: &[Request], rules: &Rules<'_>, pieces: &mut Vec<Piece>) {
    let table = places[0].table;
    let refused: Vec<Request> = rules.borders.refused.iter().filter(|border| border.table == table).copied().collect();
    let count_max = rules.count_max(table);
    let mut best: Vec<Option<Best>> = vec![None; places.len() + 1];
    best[0] = Some(Best { cost_ns: 0, requests: 0, from: 0 });
    for from in 0..places.len() {
        let Best { cost_ns, requests, .. } = best[from].expect("a place can always be read by itself");
        let mut request = places[from];
        for (last, place) in places.iter().enumerate().skip(from) {
            if last > from && !grow(&mut request, place, count_max, rules.limits.gap_max, &refused) {
                break;
            }
            let cost_ns = cost_ns.saturating_add(rules.cost.nanoseconds(&request));
            let requests = requests + 1;
            if best[last + 1].is_none_or(|known| (cost_ns, requests) < (known.cost_ns, known.requests)) {
                best[last + 1] = Some(Best { cost_ns, requests, from });
            }
        }
    }
    let first = pieces.len();
    let mut end = places.len();
    while end > 0 {
        let from = best[end].expect("every place is reached").from;
        pieces.push(Piece::around(&places[from..end]));
        end = from;
    }
    pieces[first..].reverse();
}

/// Takes a place into a request that does not begin behind it, if the rules allow that. What is no longer than one of
/// its places is always allowed: that place must be read anyway.
fn grow(request: &mut Request, place: &Request, count_max: u32, gap_max: u16, refused: &[Request]) -> bool {
    if request.contains(place) {
        return true;
    }
    if place.contains(request) {
        *request = *place;
        return true;
    }
    let end = request.end().max(place.end());
    let count = end - u32::from(request.address);
    if count > count_max || u32::from(place.address) > request.end() + u32::from(gap_max) {
        return false;
    }
    let grown = Request { count: u16::try_from(count).expect("compared with the limit"), ..*request };
    if refused.iter().any(|border| grown.contains(border)) {
        return false;
    }
    *request = grown;
    true
}

#[cfg(test)]
mod tests {
    use kerbside_model::profile::RegisterType;
    use proptest::prelude::*;

    use super::*;

    const TURN_AROUND: Duration = Duration::from_millis(10);

    /// A line of 9600 baud whose units answer after 10 ms: a request costs as much as 13 registers of an answer.
    fn slow() -> LinkTiming {
        rtu(LINE_BEHIND_NETWORK)
    }

    fn rtu(line: SerialLine) -> LinkTiming {
        LinkTiming { character: line.character(), silence: line.silence(), overhead_bytes: 3 }
    }

    fn slow_cost() -> Cost {
        Cost::of(&slow(), TURN_AROUND)
    }

    fn field(table: RegisterTable, address: u16, value: RegisterType) -> RegisterField {
        RegisterField::new(table, address, value)
    }

    fn holding(address: u16) -> RegisterField {
        field(RegisterTable::Holding, address, RegisterType::U16)
    }

    fn wide(address: u16) -> RegisterField {
        field(RegisterTable::Holding, address, RegisterType::F32)
    }

    fn check(fields: &[RegisterField], limits: Limits, borders: &Borders, expected: &[(u16, u16)]) {
        let rules = Rules { limits, cost: slow_cost(), borders };
        let requests: Vec<(u16, u16)> =
            plan(fields, &rules).iter().map(|request| (request.address, request.count)).collect();
        assert_eq!(requests, expected);
    }

    fn check_limits(fields: &[RegisterField], gap_max: u16, registers_max: u16, expected: &[(u16, u16)]) {
        let limits = Limits { gap_max, registers_max, ..Limits::default() };
        check(fields, limits, &Borders::default(), expected);
    }

    #[test]
    fn neighbours_are_read_together_and_small_gaps_are_read_through() {
        check_limits(&[], 8, 125, &[]);
        check_limits(&[holding(2), holding(0), holding(1)], 0, 125, &[(0, 3)]);
        check_limits(&[holding(0), holding(3)], 1, 125, &[(0, 1), (3, 1)]);
        check_limits(&[holding(0), holding(3)], 2, 125, &[(0, 4)]);
        check_limits(&[wide(0), holding(1), holding(1)], 0, 125, &[(0, 2)]);
    }

    #[test]
    fn a_gap_is_read_through_exactly_where_that_is_cheaper_than_a_request() {
        // 13 bytes of 1.0417 ms, a silence of 3.646 ms and 10 ms are 27.19 ms: 13.05 registers of 2.083 ms.
        check_limits(&[holding(0), holding(14)], 125, 125, &[(0, 15)]);
        check_limits(&[holding(0), holding(15)], 125, 125, &[(0, 1), (15, 1)]);
        let fast = rtu(SerialLine { baud: 115_200, ..LINE_BEHIND_NETWORK });
        let borders = Borders::default();
        let cost = Cost::of(&fast, 2 * TURN_AROUND);
        let rules = Rules { limits: Limits::default(), cost, borders: &borders };
        assert_eq!(plan(&[holding(0), holding(100)], &rules).len(), 1, "a fast line with a slow unit reads on");
    }

    #[test]
    fn a_long_run_is_cut_where_a_gap_is_saved() {
        // Greedy would read 0..60 and 60..121 through the gap; the gap is a better place to cut.
        let fields: Vec<RegisterField> = (0..50).chain(62..122).map(holding).collect();
        check_limits(&fields, 125, 60, &[(0, 50), (62, 60)]);
    }

    #[test]
    fn tables_are_never_mixed() {
        let fields = [holding(0), field(RegisterTable::Input, 1, RegisterType::U16)];
        check_limits(&fields, 100, 125, &[(0, 1), (1, 1)]);
    }

    #[test]
    fn a_wide_field_is_never_divided() {
        check_limits(&[wide(0), wide(2)], 0, 3, &[(0, 2), (2, 2)]);
        check_limits(&[holding(0), wide(1)], 0, 1, &[(0, 1), (1, 2)]);
    }

    #[test]
    fn limits_are_those_of_the_protocol_and_of_the_unit() {
        let registers: Vec<RegisterField> = (0..130).map(holding).collect();
        check_limits(&registers, 0, u16::MAX, &[(0, 5), (5, 125)]);
        check_limits(&registers[..2], 0, 0, &[(0, 1), (1, 1)]);
        let coils: Vec<RegisterField> =
            (0..2001).map(|address| field(RegisterTable::Coil, address, RegisterType::U16)).collect();
        let count = |bits_max| {
            let borders = Borders::default();
            let limits = Limits { bits_max, ..Limits::default() };
            plan(&coils, &Rules { limits, cost: slow_cost(), borders: &borders }).len()
        };
        assert_eq!((count(u16::MAX), count(16)), (2, 126));
        let alone = Limits { one_point_per_request: true, ..Limits::default() };
        check(&registers[..3], alone, &Borders::default(), &[(0, 1), (1, 1), (2, 1)]);
    }

    #[test]
    fn what_was_refused_is_never_inside_a_request() {
        let refused = |address, count| Request { table: RegisterTable::Holding, address, count };
        let fields = [holding(0), holding(1), holding(3), holding(4)];
        let gap = Borders { refused: vec![refused(2, 1)], ..Borders::default() };
        check(&fields, Limits::default(), &gap, &[(0, 2), (3, 2)]);
        let fence = Borders { refused: vec![refused(0, 2)], ..Borders::default() };
        check(&fields, Limits::default(), &fence, &[(0, 1), (1, 4)]);
        let short = Borders { longest: [None, None, Some(3), None], ..Borders::default() };
        check(&fields, Limits::default(), &short, &[(0, 2), (3, 2)]);
    }

    #[test]
    fn the_last_register_of_a_table_is_reached() {
        check_limits(&[wide(65_534), holding(65_535)], 5, 125, &[(65_534, 2)]);
    }

    #[test]
    fn halving_ends_at_single_places() {
        let borders = Borders::default();
        let cost = slow_cost();
        let rules = Rules { limits: Limits::default(), cost, borders: &borders };
        let whole = pieces(&places(&[holding(0), wide(1), holding(3), holding(9)]), &rules).remove(0);
        let [first, second] = whole.halves().unwrap();
        assert_eq!((first.request.address, first.request.count), (0, 3));
        assert_eq!((second.request.address, second.request.count), (3, 7));
        assert!(pieces(&places(&[wide(7)]), &rules)[0].halves().is_none());
    }

    #[test]
    fn a_serial_request_costs_what_its_bytes_and_silences_take() {
        let request = Request { table: RegisterTable::Holding, address: 0, count: 10 };
        // 33 bytes of 10 bits at 9600 baud, a silence of 3.5 characters, and the turn-around.
        assert_eq!(slow_cost().time(&request).as_micros(), 34_374 + 3_645 + 10_000 + 1);
        assert_eq!(request.bytes(&slow()), 33);
        let network = LinkTiming { character: Duration::ZERO, silence: Duration::from_millis(5), overhead_bytes: 7 };
        assert_eq!(Cost::on(&network, TURN_AROUND).time(&request).as_millis(), 15, "bytes cost nothing");
        let assumed = Cost::of(&LinkTiming { overhead_bytes: 3, ..network }, TURN_AROUND);
        assert_eq!(assumed, Cost::on(&LinkTiming { silence: Duration::from_millis(5), ..slow() }, TURN_AROUND));
    }

    fn any_field(addresses: u16) -> impl Strategy<Value = RegisterField> {
        let tables = prop_oneof![
            Just(RegisterTable::Coil),
            Just(RegisterTable::Discrete),
            Just(RegisterTable::Holding),
            Just(RegisterTable::Input)
        ];
        let widths = prop_oneof![
            Just(RegisterType::U16),
            Just(RegisterType::U32),
            Just(RegisterType::U48),
            Just(RegisterType::F64)
        ];
        (tables, 0..addresses, widths).prop_map(|(table, address, value)| {
            let is_bit = matches!(table, RegisterTable::Coil | RegisterTable::Discrete);
            field(table, address, if is_bit { RegisterType::U16 } else { value })
        })
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        (0_u16..20, 0_u16..300, 1_u16..300).prop_map(|(gap_max, registers_max, bits_max)| Limits {
            gap_max,
            registers_max,
            bits_max,
            one_point_per_request: false,
        })
    }

    fn any_cost() -> impl Strategy<Value = Cost> {
        (0_u64..40, 1_u64..4).prop_map(|(request_ns, byte_ns)| Cost { request_ns, byte_ns })
    }

    fn any_borders() -> impl Strategy<Value = Borders> {
        let refused = (0_u16..60, 1_u16..4).prop_map(|(address, count)| Request {
            table: RegisterTable::Holding,
            address,
            count,
        });
        let refused = proptest::collection::vec(refused, 0..4);
        (refused, proptest::option::of(1_u16..40))
            .prop_map(|(refused, longest)| Borders { refused, longest: [None, None, longest, None] })
    }

    fn price(requests: impl IntoIterator<Item = Request>, cost: Cost) -> u64 {
        requests.into_iter().map(|request| cost.nanoseconds(&request)).sum()
    }

    /// Whether a request with these places may be asked.
    fn is_legal(places: &[Request], rules: &Rules<'_>) -> bool {
        let Piece { request, .. } = Piece::around(places);
        if places.contains(&request) {
            return true;
        }
        let wanted =
            |address: u32| places.iter().any(|place| (u32::from(place.address)..place.end()).contains(&address));
        let mut gap = 0;
        for address in u32::from(request.address)..request.end() {
            gap = if wanted(address) { 0 } else { gap + 1 };
            if gap > u32::from(rules.limits.gap_max) {
                return false;
            }
        }
        u32::from(request.count) <= rules.count_max(request.table)
            && !rules.borders.refused.iter().any(|border| request.contains(border))
    }

    /// The price of the best of all partitions of the places into any sets, neighbours or not.
    fn brute_force(places: &[Request], rules: &Rules<'_>) -> u64 {
        let Some((first, rest)) = places.split_first() else { return 0 };
        let mut best = u64::MAX;
        for chosen in 0_u32..1 << rest.len() {
            let is_chosen = |position: usize| chosen >> position & 1 == 1;
            let mut with = vec![*first];
            with.extend(rest.iter().enumerate().filter(|(position, _)| is_chosen(*position)).map(|(_, place)| *place));
            if with.iter().any(|place| place.table != first.table) || !is_legal(&with, rules) {
                continue;
            }
            let without: Vec<Request> = rest
                .iter()
                .enumerate()
                .filter(|(position, _)| !is_chosen(*position))
                .map(|(_, place)| *place)
                .collect();
            let price = rules.cost.nanoseconds(&Piece::around(&with).request);
            best = best.min(price + brute_force(&without, rules));
        }
        best
    }

    /// Runs without gaps, each cut only where it is as long as a request may be.
    fn contiguous(places: &[Request], rules: &Rules<'_>) -> Vec<Request> {
        let mut runs: Vec<Vec<Request>> = Vec::new();
        for place in places {
            if let Some(run) = runs.last_mut() {
                let mut longer = run.clone();
                longer.push(*place);
                let touches = u32::from(place.address) <= Piece::around(run).request.end();
                if run[0].table == place.table && touches && is_legal(&longer, rules) {
                    *run = longer;
                    continue;
                }
            }
            runs.push(vec![*place]);
        }
        runs.iter().map(|run| Piece::around(run).request).collect()
    }

    proptest! {
        #[test]
        fn every_field_is_wholly_in_one_legal_request_and_no_plan_costs_more_than_runs_without_gaps(
            fields in proptest::collection::vec(any_field(400), 0..120),
            limits in any_limits(),
            cost in any_cost(),
            borders in any_borders(),
        ) {
            let rules = Rules { limits, cost, borders: &borders };
            let wanted = places(&fields);
            let pieces = pieces(&wanted, &rules);
            for piece in &pieces {
                prop_assert!(is_legal(&piece.places, &rules), "{piece:?}");
                prop_assert_eq!(piece.request, Piece::around(&piece.places).request, "nothing is read at the ends in vain");
            }
            let mut covered: Vec<Request> = pieces.iter().flat_map(|piece| piece.places.clone()).collect();
            covered.sort_unstable();
            prop_assert_eq!(&covered, &wanted, "every place is in one request");
            let planned = price(pieces.iter().map(|piece| piece.request), cost);
            prop_assert!(planned <= price(contiguous(&wanted, &rules), cost));
        }

        #[test]
        fn no_other_division_into_requests_is_cheaper(
            fields in proptest::collection::vec(any_field(24), 0..9),
            limits in any_limits(),
            cost in any_cost(),
            borders in any_borders(),
        ) {
            let rules = Rules { limits, cost, borders: &borders };
            let wanted = places(&fields);
            prop_assert_eq!(price(plan(&fields, &rules), cost), brute_force(&wanted, &rules));
        }
    }
}
