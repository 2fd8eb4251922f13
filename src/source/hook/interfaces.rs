//! Which interfaces a capture tells apart, by name, and where the program finds them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::layout::{ALL_INTERFACES, INTERFACES};
use super::{Hook, INTERFACES_MIN};
use crate::source::{Refused, links};

impl Hook {
    /// Where the program finds the interfaces it compares with, and their names.
    fn interface_slots(&self) -> impl Iterator<Item = (&AtomicU32, Option<&String>)> {
        let slots = self.config.interfaces.len().max(INTERFACES_MIN);
        let places = (0..slots).zip((INTERFACES..).step_by(4));
        places.filter_map(|(number, place)| {
            let word = self.settings.half_word(place)?;
            Some((word, self.names.get(number)))
        })
    }

    pub(super) fn look_up_interfaces(&mut self) {
        for (word, name) in self.interface_slots() {
            let found = name.and_then(|name| links::by_name(name).ok().flatten());
            let index = found.map_or(0, |link| link.index); // 0 is no interface
            word.store(index, Ordering::Relaxed);
        }
        self.set_word(ALL_INTERFACES, u64::from(self.names.is_empty()));
    }

    pub(super) fn set_interfaces(&mut self, names: &[String]) -> Result<(), Refused> {
        let most = self.config.interfaces.len().max(INTERFACES_MIN);
        if self.config.interfaces.is_empty() {
            return Err(Refused::not_begun_with("--iface"));
        }
        if names.len() > most {
            return Err(Refused(format!(
                "{} interfaces are named; {most} can be",
                names.len()
            )));
        }
        self.names = names.to_vec();
        self.look_up_interfaces();
        Ok(())
    }

    /// Takes note of what has come, gone or changed: from now on nobody is asked. One that comes is
    /// captured from the program's next packet on.
    pub(super) fn follow_links(&mut self, changes: &[links::Change]) {
        self.links_are_told = true;
        for change in changes {
            let (links::Change::There(link) | links::Change::Gone(link)) = change;
            let is_there = matches!(change, links::Change::There(_));
            for (word, name) in self.interface_slots() {
                if is_there && name.is_some_and(|name| link.is_called(name)) {
                    word.store(link.index, Ordering::Relaxed);
                } else if word.load(Ordering::Relaxed) == link.index {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}
