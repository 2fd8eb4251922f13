//! Where requests from outside are carried out, in the main thread, and changes that nobody confirms
//! are taken back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reporter::Reporter;
use crate::control::{Asked, Call};
use crate::session::Session;
use crate::session::orders::Order;

/// Changes that are to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Desk {
    unconfirmed: Vec<(Instant, Order)>,
}

impl Desk {
    /// Carries a request out, and answers. True where the capture is to end.
    pub(super) fn take(
        &mut self,
        call: Call,
        session: &mut Session,
        reporter: &mut Reporter,
    ) -> bool {
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
            Asked::Confirm => match std::mem::take(&mut self.unconfirmed).len() {
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
        let reverse = session.reverse_of(order);
        let mut done = session.obey(order, by)?;
        if let (Some(after), Some(reverse)) = (confirm, reverse) {
            self.unconfirmed.push((Instant::now() + after, reverse));
            done += &format!("; unless confirmed, taken back in {} s", after.as_secs());
        }
        reporter.say(&format!("{done} (by {by})"));
        Ok(done.into())
    }

    /// How long until something is to be taken back.
    pub(super) fn left(&self) -> Option<Duration> {
        let next = self.unconfirmed.iter().map(|(due, _)| *due).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Takes back what nobody has confirmed in time, the last first.
    pub(super) fn take_back_due(&mut self, session: &mut Session, reporter: &mut Reporter) {
        let now = Instant::now();
        while let Some(at) = self.unconfirmed.iter().rposition(|(due, _)| *due <= now) {
            let (_, order) = self.unconfirmed.remove(at);
            match session.obey(&order, "a change that nobody confirmed") {
                Ok(done) => reporter.say(&format!("nobody has confirmed it: {done}")),
                Err(why) => reporter.say(&format!("a change cannot be taken back: {why}")),
            }
        }
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
        "buffer_bytes": session.granted_buffer_bytes(),
    }))
}

fn value(object: impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| error.to_string())
}
