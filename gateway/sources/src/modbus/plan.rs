//! Turns the fields of a unit into as few read requests as the limits allow.
//!
//! Pure functions: nothing here survives anything, and there are no metrics.

use std::cmp::Reverse;

use kerbside_model::RegisterTable;
use kerbside_model::profile::RegisterField;

/// Most registers in one request (Modbus Application Protocol V1.1b3, sections 6.3 and 6.4).
pub const REGISTERS_MAX: u16 = 125;

/// Most coils or discrete inputs in one request (Modbus Application Protocol V1.1b3, sections 6.1 and 6.2).
pub const BITS_MAX: u16 = 2000;

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
    fn of(field: &RegisterField) -> Request {
        Request { table: field.table, address: field.address, count: field.width() }
    }

    /// The first address behind it; 65536 at the end of a table.
    pub(super) fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }
}

/// A request with the registers that are wanted of it: what it is divided into when the unit refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) request: Request,
    /// Distinct places of fields, by address; never empty, and never divided.
    places: Vec<Request>,
}

/// The requests that read all fields: adjacent and overlapping fields of one table together, gaps of up to `gap_max`
/// registers read through.
///
/// `registers_max` is clamped to 1..=125 registers, or 1..=2000 coils or discrete inputs. A field is never divided:
/// one that is wider than the limit has a request of its own.
pub fn plan(fields: &[RegisterField], gap_max: u16, registers_max: u16) -> Vec<Request> {
    pieces(fields, gap_max, registers_max).iter().map(|piece| piece.request).collect()
}

pub(super) fn pieces(fields: &[RegisterField], gap_max: u16, registers_max: u16) -> Vec<Piece> {
    let mut places: Vec<Request> = fields.iter().map(Request::of).collect();
    places.sort_unstable_by_key(|place| (place.table, place.address, Reverse(place.count)));
    places.dedup();
    let mut pieces: Vec<Piece> = Vec::new();
    for place in places {
        match pieces.last_mut() {
            Some(piece) if piece.has_room_for(&place, gap_max, registers_max) => piece.extend(place),
            _ => pieces.push(Piece { request: place, places: vec![place] }),
        }
    }
    pieces
}

impl Piece {
    fn has_room_for(&self, place: &Request, gap_max: u16, registers_max: u16) -> bool {
        let limit = match place.table {
            RegisterTable::Coil | RegisterTable::Discrete => registers_max.clamp(1, BITS_MAX),
            RegisterTable::Holding | RegisterTable::Input => registers_max.clamp(1, REGISTERS_MAX),
        };
        let end = self.request.end().max(place.end());
        self.request.table == place.table
            && u32::from(place.address) <= self.request.end() + u32::from(gap_max)
            && end - u32::from(self.request.address) <= u32::from(limit)
    }

    /// Adds a place that does not begin before the piece.
    fn extend(&mut self, place: Request) {
        let end = self.request.end().max(place.end());
        self.request.count = u16::try_from(end - u32::from(self.request.address)).expect("a piece is within its limit");
        self.places.push(place);
    }

    /// Two pieces with half of the places each, without the gap between them; nothing when there is one place only.
    pub(super) fn halves(&self) -> Option<[Piece; 2]> {
        if self.places.len() < 2 {
            return None;
        }
        let (first, second) = self.places.split_at(self.places.len() / 2);
        Some([Piece::around(first), Piece::around(second)])
    }

    fn around(places: &[Request]) -> Piece {
        let mut piece = Piece { request: places[0], places: vec![places[0]] };
        for place in &places[1..] {
            piece.extend(*place);
        }
        piece
    }

    /// Takes the places of the piece that follows when the two touch and are not more than `registers_max` together;
    /// else gives it back.
    pub(super) fn join(&mut self, next: Piece, registers_max: u16) -> Result<(), Piece> {
        let starts_inside = next.request.address >= self.request.address;
        if !starts_inside || !self.has_room_for(&next.request, 0, registers_max) {
            return Err(next);
        }
        for place in next.places {
            self.extend(place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::profile::{ByteOrder, RegisterType};
    use proptest::prelude::*;

    use super::*;

    fn field(table: RegisterTable, address: u16, value: RegisterType) -> RegisterField {
        RegisterField { table, address, value, order: ByteOrder::Abcd, bit: None }
    }

    fn holding(address: u16) -> RegisterField {
        field(RegisterTable::Holding, address, RegisterType::U16)
    }

    fn wide(address: u16) -> RegisterField {
        field(RegisterTable::Holding, address, RegisterType::F32)
    }

    fn check(fields: &[RegisterField], gap_max: u16, registers_max: u16, expected: &[(u16, u16)]) {
        let requests: Vec<(u16, u16)> =
            plan(fields, gap_max, registers_max).iter().map(|request| (request.address, request.count)).collect();
        assert_eq!(requests, expected);
    }

    #[test]
    fn neighbours_are_read_together_and_small_gaps_are_read_through() {
        check(&[], 8, 125, &[]);
        check(&[holding(2), holding(0), holding(1)], 0, 125, &[(0, 3)]);
        check(&[holding(0), holding(3)], 1, 125, &[(0, 1), (3, 1)]);
        check(&[holding(0), holding(3)], 2, 125, &[(0, 4)]);
        check(&[wide(0), holding(1), holding(1)], 0, 125, &[(0, 2)]);
    }

    #[test]
    fn tables_are_never_mixed() {
        let fields = [holding(0), field(RegisterTable::Input, 1, RegisterType::U16)];
        assert_eq!(plan(&fields, 100, 125).len(), 2);
    }

    #[test]
    fn a_wide_field_is_never_divided() {
        check(&[wide(0), wide(2)], 0, 3, &[(0, 2), (2, 2)]);
        check(&[holding(0), wide(1)], 0, 1, &[(0, 1), (1, 2)]);
    }

    #[test]
    fn limits_are_those_of_the_protocol() {
        let registers: Vec<RegisterField> = (0..130).map(holding).collect();
        check(&registers, 0, u16::MAX, &[(0, 125), (125, 5)]);
        check(&registers[..2], 0, 0, &[(0, 1), (1, 1)]);
        let coils: Vec<RegisterField> =
            (0..2001).map(|address| field(RegisterTable::Coil, address, RegisterType::U16)).collect();
        check(&coils, 0, u16::MAX, &[(0, 2000), (2000, 1)]);
    }

    #[test]
    fn the_last_register_of_a_table_is_reached() {
        check(&[wide(65_534), holding(65_535)], 5, 125, &[(65_534, 2)]);
    }

    #[test]
    fn halving_ends_at_single_places_and_joining_undoes_it() {
        let whole = pieces(&[holding(0), wide(1), holding(3), holding(9)], 10, 125).remove(0);
        let [mut first, second] = whole.halves().unwrap();
        assert_eq!((first.request.address, first.request.count), (0, 3));
        assert_eq!((second.request.address, second.request.count), (3, 7));
        assert!(pieces(&[wide(7)], 0, 125)[0].halves().is_none());
        let refused = first.join(second, 9).unwrap_err();
        first.join(refused, 10).unwrap();
        assert_eq!(first, whole);
    }

    fn any_field() -> impl Strategy<Value = RegisterField> {
        let tables = prop_oneof![
            Just(RegisterTable::Coil),
            Just(RegisterTable::Discrete),
            Just(RegisterTable::Holding),
            Just(RegisterTable::Input)
        ];
        (tables, 0_u16..400, any::<bool>()).prop_map(|(table, address, is_wide)| {
            let is_bit = matches!(table, RegisterTable::Coil | RegisterTable::Discrete);
            field(table, address, if is_wide && !is_bit { RegisterType::U32 } else { RegisterType::U16 })
        })
    }

    /// Least bound on the number of requests that can be told without planning: a run within the limit needs one, and
    /// of a longer run each request but the last reads at least the limit less one, because a wide field may not fit.
    fn requests_without_gaps(fields: &[RegisterField], limit: impl Fn(RegisterTable) -> u32) -> u32 {
        let mut places: Vec<Request> = fields.iter().map(Request::of).collect();
        places.sort_unstable();
        let mut runs: Vec<(RegisterTable, u32, u32)> = Vec::new();
        for place in places {
            let start = u32::from(place.address);
            match runs.last_mut() {
                Some((table, _, end)) if *table == place.table && start <= *end => *end = place.end().max(*end),
                _ => runs.push((place.table, start, place.end())),
            }
        }
        let requests = |(table, start, end): (RegisterTable, u32, u32)| {
            let limit = limit(table);
            if end - start <= limit { 1 } else { (end - start).div_ceil((limit - 1).max(1)) }
        };
        runs.into_iter().map(requests).sum()
    }

    proptest! {
        #[test]
        fn every_field_is_wholly_in_one_request_and_no_request_is_too_long(
            fields in proptest::collection::vec(any_field(), 0..120),
            gap_max in 0_u16..20,
            registers_max in 0_u16..300,
        ) {
            let limit = |table| match table {
                RegisterTable::Coil | RegisterTable::Discrete => u32::from(registers_max.clamp(1, BITS_MAX)),
                _ => u32::from(registers_max.clamp(1, REGISTERS_MAX)),
            };
            let pieces = pieces(&fields, gap_max, registers_max);
            let requests: Vec<Request> = pieces.iter().map(|piece| piece.request).collect();
            prop_assert_eq!(plan(&fields, gap_max, registers_max), requests);
            for piece in &pieces {
                let request = piece.request;
                let is_one_wide_field = piece.places.as_slice() == [request];
                prop_assert!(u32::from(request.count) <= limit(request.table) || is_one_wide_field);
                prop_assert!(piece.places.iter().all(|place| place.table == request.table
                    && place.address >= request.address && place.end() <= request.end()));
            }
            for field in &fields {
                let place = Request::of(field);
                let holders = pieces.iter().filter(|piece| piece.places.contains(&place)).count();
                prop_assert_eq!(holders, 1, "{:?} belongs to one request", field);
            }
            let bound = requests_without_gaps(&fields, limit);
            prop_assert!(pieces.len() as u32 <= bound, "{} requests, at most {}", pieces.len(), bound);
        }
    }
}
