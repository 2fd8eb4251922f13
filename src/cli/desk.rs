//! Where requests from outside are carried out, in the main thread, and changes that nobody confirms
//! are taken back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reporter::{Reporter, at_interface, smaller_buffer};
use crate::control::{Asked, Call};
use crate::session::Session;
use crate::session::orders::Order;

/// So long after a change could not be taken back it is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Settings with changes that are to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Desk {
    unconfirmed: Vec<Unconfirmed>,
}

/// A setting, and what lies upon the value that was there before.
///
/// The last change is in force. Each goes when its time has come, wherever it lies; with the last the
/// setting goes back to what is below. A change that is not to be confirmed stays: it takes the place
/// of all.
#[derive(Debug)]
struct Unconfirmed {
    before: Order,
    changes: Vec<(Instant, Order)>,
    /// When it is tried again, and said no more.
    retry: Option<Instant>,
}

impl Unconfirmed {
    fn in_force(&self) -> &Order {
        self.changes.last().map_or(&self.before, |(_, order)| order)
    }

    fn due(&self) -> Option<Instant> {
        let changes = self.changes.iter().map(|(due, _)| *due);
        changes.chain(self.retry).min()
    }
}

impl Desk {
    /// Carries a request out, and answers. True where the capture is to end.
    pub(super) fn take(
        &mut self,
        call: Call,
        session: &mut Session,
        reporter: &mut Reporter,
    ) -> bool {
        if !call.is_wanted() {
            return false; // who asked has been told that nothing is done
        }
        let answer = match call.asked.clone() {
            Asked::Stats => stats(session),
            Asked::Settings => value(session.changeable()).map(|now| json!({ "settings": now })),
            Asked::Keep(wanted) => {
                let kept = session.keep(&wanted, &call.by);
                if let Ok(done) = &kept {
                    reporter.say(done);
                }
                kept.map(Value::from)
            }
            Asked::Stop => {
                reporter.say(&format!("{} ends the capture", call.by));
                call.answer(Ok("the capture ends".into()));
                return true;
            }
            Asked::Confirm => match self.confirm() {
                0 => Err("there is nothing to confirm".to_owned()),
                changes => Ok(format!("confirmed: changes that stay: {changes}").into()),
            },
            Asked::Change(order, confirm) => {
                self.change(session, reporter, &order, confirm, &call.by)
            }
        };
        call.answer(answer);
        false
    }

    fn change(
        &mut self,
        session: &mut Session,
        reporter: &mut Reporter,
        order: &Order,
        confirm: Option<Duration>,
        by: &str,
    ) -> Result<Value, String> {
        let before = session.reverse_of(order);
        let mut done = session.obey(order, by)?;
        let known = self
            .unconfirmed
            .iter()
            .position(|setting| setting.before.concerns_the_same(order));
        match (confirm, before) {
            (None, _) => {
                // What was to be confirmed of this setting is no more: this stays.
                known.map(|at| self.unconfirmed.remove(at));
            }
            (Some(after), Some(before)) => {
                let now = Instant::now();
                let change = (now.checked_add(after).unwrap_or(now), order.clone());
                match known.and_then(|at| self.unconfirmed.get_mut(at)) {
                    Some(setting) => setting.changes.push(change),
                    None => self.unconfirmed.push(Unconfirmed {
                        before,
                        changes: vec![change],
                        retry: None,
                    }),
                }
                done += &format!("; unless confirmed, taken back in {} s", after.as_secs());
            }
            (Some(_), None) => {}
        }
        for hint in hints(session, order) {
            done += &format!("; {hint}");
        }
        if matches!(order, Order::Interfaces(_)) {
            reporter.interfaces_are_told(session);
        }
        reporter.say(&format!("{done} (by {by})"));
        Ok(done.into())
    }

    /// All changes stay. Returns how many there were.
    fn confirm(&mut self) -> usize {
        let settings = std::mem::take(&mut self.unconfirmed);
        settings.iter().map(|setting| setting.changes.len()).sum()
    }

    /// How long until something is to be taken back.
    pub(super) fn left(&self) -> Option<Duration> {
        let next = self.unconfirmed.iter().filter_map(Unconfirmed::due).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Takes back what nobody has confirmed in time. What cannot be is tried again.
    pub(super) fn take_back_due(&mut self, session: &mut Session, reporter: &mut Reporter) {
        let now = Instant::now();
        for setting in &mut self.unconfirmed {
            if setting.due().is_none_or(|due| due > now) {
                continue;
            }
            let in_force = setting.in_force().clone();
            setting.changes.retain(|(due, _)| *due > now);
            let order = setting.in_force();
            if setting.retry.is_none() && *order == in_force {
                continue;
            }
            match session.obey(order, "a change that nobody confirmed") {
                Ok(done) => {
                    setting.retry = None;
                    reporter.say(&format!("nobody has confirmed it: {done}"));
                }
                Err(why) => {
                    let again = now.checked_add(RETRY);
                    if std::mem::replace(&mut setting.retry, again).is_none() {
                        reporter.say(&format!(
                            "a change cannot be taken back: {why}; it is tried again every {} s",
                            RETRY.as_secs()
                        ));
                    }
                }
            }
        }
        self.unconfirmed.retain(|setting| setting.due().is_some());
    }
}

/// What an order that was carried out does not do, or not all of.
fn hints(session: &Session, order: &Order) -> Vec<String> {
    match order {
        Order::Interfaces(names) => {
            let hints = names.iter().filter_map(|name| at_interface(name));
            hints.map(|hint| hint.text().to_owned()).collect()
        }
        Order::BufferBytes(_) if session.has_smaller_buffer() => {
            let granted = session.granted_buffer_bytes();
            vec![smaller_buffer(session.settings(), granted)]
        }
        _ => Vec::new(),
    }
}

fn stats(session: &mut Session) -> Result<Value, String> {
    let snapshot = session.snapshot();
    Ok(json!({
        "stats": value(&snapshot.total)?,
        "sources": value(&snapshot.sources)?,
        "elapsed_secs": snapshot.elapsed.as_secs_f64(),
        "settings": value(session.changeable())?,
        "paused": session.changeable().paused,
        "rings": session.settings().names().len(),
        "granted_buffer_bytes": session.granted_buffer_bytes(),
    }))
}

fn value(object: impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| error.to_string())
}
