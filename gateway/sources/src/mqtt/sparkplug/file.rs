//! What is remembered of births over a restart: `sparkplug-NAME.json` in the gateway's folder.
//!
//! Without it every node that is born would have to be asked for its birth after each start, and what it sends until
//! then could not be named. The file is replaced as a whole; one that cannot be read is told and forgotten.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::subscriptions::replace;
use super::table::{NODES_MAX, Names, Node, Table};

/// The contents of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    nodes: Vec<StoredNode>,
}

#[derive(Serialize, Deserialize)]
struct StoredNode {
    /// `group/node`.
    node: String,
    bd_seq: Option<u64>,
    born_at: Option<u64>,
    seq: Option<u8>,
    devices: Vec<StoredDevice>,
}

#[derive(Serialize, Deserialize)]
struct StoredDevice {
    /// Empty for the node itself.
    device: String,
    metrics: Vec<StoredMetric>,
}

/// Name, alias and datatype.
#[derive(Serialize, Deserialize)]
struct StoredMetric(Arc<str>, Option<u64>, u32);

impl Stored {
    /// The nodes whose session is known.
    pub(super) fn of(table: &Table) -> Stored {
        let born = table.nodes().filter(|(_, node)| node.is_born);
        let nodes = born.map(|(key, node)| StoredNode {
            node: key.clone(),
            bd_seq: node.bd_seq,
            born_at: node.born_at,
            seq: node.seq,
            devices: node.devices.iter().map(|(device, names)| StoredDevice::of(device, names)).collect(),
        });
        Stored { nodes: nodes.collect() }
    }

    /// The table as it was.
    fn into_table(self) -> Table {
        let mut table = Table::default();
        for stored in self.nodes.into_iter().take(NODES_MAX) {
            let mut node = Node {
                bd_seq: stored.bd_seq,
                born_at: stored.born_at,
                seq: stored.seq,
                is_born: true,
                ..Node::default()
            };
            for device in stored.devices {
                let metrics =
                    device.metrics.iter().map(|StoredMetric(name, alias, datatype)| (&**name, *alias, *datatype));
                node.devices.insert(device.device, Names::new(metrics));
            }
            table.restore(&stored.node, node);
        }
        table
    }
}

impl StoredDevice {
    fn of(device: &str, names: &Names) -> StoredDevice {
        let with_alias = names.by_alias.iter();
        let mut metrics: Vec<StoredMetric> = with_alias
            .map(|(alias, known)| StoredMetric(Arc::clone(&known.name), Some(*alias), known.datatype))
            .collect();
        let named: HashMap<&str, ()> = names.by_alias.values().map(|known| (&*known.name, ())).collect();
        let without = names.by_name.iter().filter(|(name, _)| !named.contains_key(&***name));
        metrics.extend(without.map(|(name, datatype)| StoredMetric(Arc::clone(name), None, *datatype)));
        StoredDevice { device: device.to_owned(), metrics }
    }
}

/// What is remembered; `None` when there is no file.
pub(super) fn read(path: &Path) -> io::Result<Option<Table>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice::<Stored>(&bytes)?.into_table())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As a whole or not at all, also when the power goes.
pub(super) fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    replace(path, &serde_json::to_vec(stored)?)
}
