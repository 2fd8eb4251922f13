//! How many packets the rules handed over: the *detected* of the account.

use std::collections::HashSet;

use super::{
    Family,
    constants::*,
    error::RuleError,
    expression::{Expression, expressions},
    inspect::{CounterPlace, LoggingRule},
    message::{Lookup, attrs, be32, be64, string},
    socket::{NftSocket, bad_message},
};

/// Reads the counters of a set of rules: four system calls a counter.
pub struct Detected {
    /// Each counter once; `None` if the sum cannot be known.
    counters: Option<Counters>,
}

/// A counter, and what was last seen of it.
struct Watched {
    place: CounterPlace,
    packets: u64,
    /// The kernel's number of its table: another one is another table, whatever its name.
    table_handle: Option<u64>,
}

impl Detected {
    /// Counts the packets of these rules: all that log to a group (or queue), or of several.
    ///
    /// A counter that several groups share serves if all of them are among the rules.
    pub fn new(rules: &[LoggingRule]) -> Result<Self, RuleError> {
        let mut counters_of_rules = Counters::open()?;
        let places = counters(rules);
        Ok(Detected {
            counters: places.map(|places| {
                counters_of_rules.watch(places);
                counters_of_rules
            }),
        })
    }

    /// Packets that the rules have handed over since they were loaded.
    ///
    /// `None` if there are no rules, or one of them has no usable counter. Several counters are
    /// read one after the other, so under traffic their sum is of no one moment. Rules loaded
    /// after [`logging_rules`](super::logging_rules) was called are not among them.
    pub fn read(&mut self) -> Result<Option<u64>, RuleError> {
        let Some(looks) = self.look() else {
            return Ok(None);
        };
        let mut sum: u64 = 0;
        for (_, now) in looks {
            sum = sum.saturating_add(now?);
        }
        Ok(Some(sum))
    }

    /// What each counter shows, or why it does not; `None` as for [`Detected::read`].
    pub fn look(&mut self) -> Option<Vec<(CounterPlace, Result<u64, RuleError>)>> {
        Some(self.counters.as_mut()?.look())
    }
}

/// Reads counters, one by one, whatever they count for.
pub struct Counters {
    socket: NftSocket,
    watched: Vec<Watched>,
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    /// None of them yet.
    pub fn open() -> Result<Self, RuleError> {
        Ok(Counters {
            socket: NftSocket::open()?,
            watched: Vec::new(),
        })
    }

    /// The generation of the rules: another one after each change.
    pub fn generation(&mut self) -> Result<Option<u32>, RuleError> {
        self.socket.generation()
    }

    /// Watches these counters from now on, and no others. What is known of those that were watched
    /// before stays known.
    pub fn watch(&mut self, places: impl IntoIterator<Item = CounterPlace>) {
        let mut before = std::mem::take(&mut self.watched);
        for place in places {
            let known = before.iter().position(|watched| watched.place == place);
            self.watched.push(match known {
                Some(at) => before.swap_remove(at),
                None => Watched {
                    place,
                    packets: 0,
                    table_handle: None,
                },
            });
        }
    }

    /// What each counter shows, or why it does not.
    pub fn look(&mut self) -> Vec<(CounterPlace, Result<u64, RuleError>)> {
        let Counters { socket, watched } = self;
        let looks = watched.iter_mut().map(|counter| {
            let now = counter.look(socket);
            (counter.place.clone(), now)
        });
        looks.collect()
    }
}

impl Watched {
    /// What it shows. An error if it shows less than before, or is another one under the same name.
    fn look(&mut self, socket: &mut NftSocket) -> Result<u64, RuleError> {
        let gone = |place: &CounterPlace| RuleError::CounterGone {
            counter: place.to_string(),
        };
        let now = read(socket, &self.place)?.ok_or_else(|| gone(&self.place))?;
        // Asked after the counter: if it is still the same table, the counter was its.
        let handle = table_handle(socket, self.place.table())?;
        let handle_before = self
            .table_handle
            .replace(handle.ok_or_else(|| gone(&self.place))?);
        if handle_before.is_some() && handle_before != self.table_handle {
            return Err(gone(&self.place));
        }
        let before = std::mem::replace(&mut self.packets, now);
        if now < before {
            let counter = self.place.to_string();
            return Err(RuleError::CounterReset {
                counter,
                before,
                now,
            });
        }
        Ok(now)
    }
}

/// The kernel's number of a table; `None` if it is gone.
fn table_handle(
    socket: &mut NftSocket,
    (family, table): (Family, &str),
) -> Result<Option<u64>, RuleError> {
    const REQUEST: &str = "look at a counter's table";
    let key =
        attrs([string(NFTA_TABLE_NAME, table)]).map_err(|error| bad_message(REQUEST, error))?;
    let found = socket.get(REQUEST, NFT_MSG_GETTABLE, family.0, key)?;
    Ok(found.and_then(|found| found.attrs.be64(NFTA_TABLE_HANDLE)))
}

/// The counters of all these rules, each once; `None` if one is missing or counts for others too.
fn counters(rules: &[LoggingRule]) -> Option<HashSet<CounterPlace>> {
    if rules.is_empty() {
        return None;
    }
    let numbers: HashSet<u16> = rules.iter().map(|rule| rule.number).collect();
    let mut places = HashSet::new();
    for rule in rules {
        let counter = rule.counter.as_ref()?;
        if !counter
            .shared_with
            .iter()
            .all(|number| numbers.contains(number))
        {
            return None;
        }
        places.insert(counter.place.clone());
    }
    Some(places)
}

/// What a counter shows; `None` if it is gone.
fn read(socket: &mut NftSocket, place: &CounterPlace) -> Result<Option<u64>, RuleError> {
    const REQUEST: &str = "read a counter";
    let encoding = |error| bad_message(REQUEST, error);
    match place {
        CounterPlace::Named {
            family,
            table,
            name,
        } => {
            let key = attrs([
                string(NFTA_OBJ_TABLE, table),
                string(NFTA_OBJ_NAME, name),
                be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER),
            ]);
            let key = key.map_err(encoding)?;
            let object = socket.get(REQUEST, NFT_MSG_GETOBJ, family.0, key)?;
            Ok(object.and_then(|o| o.attrs.nested(NFTA_OBJ_DATA)?.be64(NFTA_COUNTER_PACKETS)))
        }
        CounterPlace::InRule {
            family,
            table,
            chain,
            handle,
            index,
        } => {
            let key = attrs([
                string(NFTA_RULE_TABLE, table),
                string(NFTA_RULE_CHAIN, chain),
                be64(NFTA_RULE_HANDLE, *handle),
            ]);
            let key = key.map_err(encoding)?;
            let rule = socket.get(REQUEST, NFT_MSG_GETRULE, family.0, key)?;
            Ok(
                rule.and_then(|rule| match expressions(&rule.attrs).get(*index) {
                    Some(Expression::Counter(packets)) => Some(*packets),
                    _ => None,
                }),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::CounterRef;
    use crate::source::Target;

    fn rule(number: u16, counter: Option<(&str, &[u16])>) -> LoggingRule {
        let family = Family(2);
        let counter = counter.map(|(name, shared_with)| CounterRef {
            place: CounterPlace::Named {
                family,
                table: "t".to_owned(),
                name: name.to_owned(),
            },
            shared_with: shared_with.to_vec(),
        });
        LoggingRule {
            target: Target::Group,
            number,
            family,
            table: "t".to_owned(),
            chain: "c".to_owned(),
            handle: 1,
            hook: None,
            prefix: None,
            snaplen: None,
            queue_threshold: None,
            drops: false,
            bypass: true,
            counter,
            asleep: None,
            early: Vec::new(),
        }
    }

    #[test]
    fn sums_only_what_it_can_know() {
        let count = |rules: &[LoggingRule]| counters(rules).map(|list| list.len());
        assert_eq!(count(&[]), None);
        assert_eq!(
            count(&[rule(5, Some(("a", &[]))), rule(5, Some(("b", &[])))]),
            Some(2)
        );
        assert_eq!(
            count(&[rule(5, Some(("a", &[]))), rule(5, Some(("a", &[])))]),
            Some(1)
        );
        assert_eq!(count(&[rule(5, Some(("a", &[]))), rule(5, None)]), None);
        assert_eq!(
            count(&[rule(5, Some(("a", &[6])))]),
            None,
            "6 is not asked for"
        );
        assert_eq!(
            count(&[rule(5, Some(("a", &[6]))), rule(6, Some(("a", &[5])))]),
            Some(1)
        );
    }
}
