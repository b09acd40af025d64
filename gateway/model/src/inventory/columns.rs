//! The columns of an inventory, and the headings under which spreadsheets have them.

use crate::document::closest;

/// A column of the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is explained in docs/inventory.md and by its field of Device")]
pub enum Column {
    Id,
    Profile,
    Source,
    Address,
    Name,
    Lon,
    Lat,
    Datum,
    Place,
    Grid,
    ComponentCode,
    Unit,
    MountHeightMm,
    LevelOffsetMm,
    Interval,
    Function,
    Parent,
    Service,
    Tags,
    Downstream,
    BatterySince,
    Note,
}

/// How many columns there are.
pub const COLUMNS: usize = 22;

/// Each column with its name, its Chinese heading, and other headings that are met. They are compared in lower case
/// and without spaces.
const HEADINGS: [(Column, &str, &str, &[&str]); COLUMNS] = [
    (Column::Id, "id", "编号", &["device_id", "设备编号", "部件编号", "设备id"]),
    (Column::Profile, "profile", "设备模型", &["model", "设备型号", "型号"]),
    (Column::Source, "source", "来源", &["数据源"]),
    (Column::Address, "address", "地址", &["deveui", "dev_eui", "imei", "设备地址", "通信地址", "通讯地址"]),
    (Column::Name, "name", "名称", &["设备名称", "部件名称"]),
    (Column::Lon, "lon", "经度", &["lng", "longitude"]),
    (Column::Lat, "lat", "纬度", &["latitude"]),
    (Column::Datum, "datum", "坐标系", &["坐标系统", "坐标系类型"]),
    (Column::Place, "place", "位置", &["安装位置", "安装地点", "详细地址", "所在位置", "地点"]),
    (Column::Grid, "grid", "单元网格", &["单元网格编码", "单元网格代码", "网格编码", "所属网格", "所在网格"]),
    (Column::ComponentCode, "component_code", "部件标识码", &["部件编码", "部件代码", "标识码"]),
    (Column::Unit, "unit", "责任单位", &["养护单位", "养护部门", "责任部门"]),
    (Column::MountHeightMm, "mount_height_mm", "安装高度", &[]),
    (Column::LevelOffsetMm, "level_offset_mm", "液位修正", &[]),
    (Column::Interval, "interval", "上报间隔", &["上报周期", "采集周期"]),
    (Column::Function, "function", "功能码", &["modbus_function", "读功能码"]),
    (Column::Parent, "parent", "上级设施", &["所属设施"]),
    (Column::Service, "service", "服务状态", &["状态"]),
    (Column::Tags, "tags", "标签", &["tag", "设备标签", "分组标签"]),
    (Column::Downstream, "downstream", "下游设备", &["下游", "下游编号", "下游点位"]),
    (Column::BatterySince, "battery_since", "电池启用日期", &["电池更换日期", "换电日期", "电池安装日期"]),
    (Column::Note, "note", "备注", &["remark", "remarks", "说明"]),
];

/// Units that a heading may name in brackets, by the column whose numbers are in them.
const UNITS: [(&str, &[Column]); 6] = [
    ("mm", &[Column::MountHeightMm, Column::LevelOffsetMm]),
    ("毫米", &[Column::MountHeightMm, Column::LevelOffsetMm]),
    ("°", &[Column::Lon, Column::Lat]),
    ("度", &[Column::Lon, Column::Lat]),
    ("deg", &[Column::Lon, Column::Lat]),
    ("必填", &[Column::Id, Column::Profile, Column::Address]),
];

impl Column {
    /// Every column, in the order in which they are written.
    pub const ALL: [Column; COLUMNS] = {
        let mut all = [Column::Id; COLUMNS];
        let mut position = 0;
        while position < COLUMNS {
            all[position] = HEADINGS[position].0;
            position += 1;
        }
        all
    };

    /// Its name, which is its English heading.
    pub fn name(self) -> &'static str {
        HEADINGS[self as usize].1
    }

    /// Its Chinese heading.
    pub fn name_zh(self) -> &'static str {
        HEADINGS[self as usize].2
    }

    /// The column under a heading.
    pub fn of_heading(heading: &str) -> Option<Column> {
        let plain = plain(heading);
        let found = |text: &str| {
            let is_it = |(_, name, name_zh, others): &&(Column, &str, &str, &[&str])| {
                *name == text || *name_zh == text || others.contains(&text)
            };
            HEADINGS.iter().find(is_it).map(|(column, ..)| *column)
        };
        found(&plain).or_else(|| {
            let (text, unit) = plain.strip_suffix(')')?.split_once('(')?;
            let column = found(text)?;
            UNITS.iter().any(|(name, columns)| *name == unit && columns.contains(&column)).then_some(column)
        })
    }

    /// What to do about a heading that no column has.
    pub(super) fn mend(heading: &str) -> String {
        let plain = plain(heading);
        let before_bracket = plain.split_once('(').map_or(plain.as_str(), |(text, _)| text);
        if let Some(column) = Column::of_heading(before_bracket) {
            return format!("write the values in the unit of {} and head the column so", column.name());
        }
        let names = Column::ALL.map(Column::name);
        match closest(&plain, &names) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("known columns: {}; delete it or leave it: it is not read", names.join(", ")),
        }
    }
}

/// A heading without what people add to it: spaces, line breaks, a star for "needed", full-width brackets.
fn plain(heading: &str) -> String {
    let narrow = |letter: char| match letter {
        '（' => '(',
        '）' => ')',
        other => other,
    };
    let kept = heading.chars().filter(|letter| !letter.is_whitespace() && !matches!(letter, '*' | '＊' | '\u{feff}'));
    kept.map(narrow).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_known_by_all_its_headings_and_by_no_other_columns() {
        for (position, (column, name, name_zh, others)) in HEADINGS.iter().enumerate() {
            assert_eq!(*column as usize, position);
            for heading in [name, name_zh].into_iter().chain(others.iter()) {
                assert_eq!(Column::of_heading(heading), Some(*column), "{heading}");
            }
        }
    }

    #[test]
    fn headings_may_carry_stars_spaces_and_their_own_unit() {
        assert_eq!(Column::of_heading(" ID* "), Some(Column::Id));
        assert_eq!(Column::of_heading("安装高度（mm）"), Some(Column::MountHeightMm));
        assert_eq!(Column::of_heading("经 度\n(°)"), Some(Column::Lon));
        assert_eq!(Column::of_heading("安装高度(m)"), None, "metres would be a thousandth of what is meant");
        assert_eq!(Column::of_heading("经度(mm)"), None);
        assert!(Column::mend("安装高度(m)").contains("mount_height_mm"));
        assert!(Column::mend("adress").contains("did you mean address?"));
    }
}
