//! Which steps of a scan are begun, and in which order. Each takes as long, however many there are.

use std::collections::VecDeque;

use crate::read::packets::Packets;
use crate::read::piece::Piece;
use crate::read::places::Listed;
use crate::read::plan::Parts;

#[derive(Debug)]
pub(super) enum Job {
    File(Listed),
    Part(Parts),
    /// A file that cannot be divided, from where it stands.
    Rest(Box<Packets>),
}

#[derive(Debug)]
enum State {
    Doing,
    Done(Piece),
}

/// A step of a chain that was begun.
#[derive(Debug)]
pub(super) struct Step {
    id: u64,
    /// Which of the files it is of.
    file: u64,
    state: State,
    /// What stands behind it, and before the next step.
    then: VecDeque<Job>,
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) files: VecDeque<Listed>,
    pub(super) steps: VecDeque<Step>,
}

/// A job for whichever thread comes first.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) chain: usize,
    pub(super) id: u64,
    pub(super) job: Job,
}

#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) chains: Vec<Chain>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) next_id: u64,
    pub(super) next_file: u64,
    /// Steps of a chain that are begun.
    pub(super) window: usize,
    pub(super) stop: bool,
    /// The chain whose next piece is waited for.
    pub(super) wanted: Option<usize>,
    /// Threads that wait for something to do, and were not woken.
    pub(super) idle: usize,
}

/// What has come of a job.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) piece: Piece,
    /// What is to be done behind it.
    pub(super) then: VecDeque<Job>,
    /// What is known of the file's other parts is wrong.
    pub(super) in_place_of_parts: bool,
}

impl Desk {
    /// Begins steps of a chain, as many as may be: what stands behind one that is done first. Files that are planned
    /// and wait for their turn keep nobody from the parts of the one before them.
    pub(super) fn begin_steps(&mut self, number: usize) {
        while self.begin_step(number) {}
    }

    fn begin_step(&mut self, number: usize) -> bool {
        let window = self.window;
        let Some(chain) = self.chains.get_mut(number) else {
            return false;
        };
        let waiting = chain.steps.iter().position(|step| !step.then.is_empty());
        let place = waiting.map_or(chain.steps.len(), |place| place + 1);
        if place >= window {
            return false;
        }
        if let Some(step) = waiting.and_then(|waiting| chain.steps.get_mut(waiting)) {
            let (mut then, file) = (std::mem::take(&mut step.then), step.file);
            if let Some(job) = then.pop_front() {
                self.begin_at(number, place, file, job, then);
            }
            return true;
        }
        let Some(file) = chain.files.pop_front() else {
            return false;
        };
        self.next_file += 1;
        self.begin_at(
            number,
            place,
            self.next_file,
            Job::File(file),
            VecDeque::new(),
        );
        true
    }

    fn begin_at(&mut self, chain: usize, place: usize, file: u64, job: Job, then: VecDeque<Job>) {
        self.next_id += 1;
        let id = self.next_id;
        let step = Step {
            id,
            file,
            state: State::Doing,
            then,
        };
        self.chains[chain].steps.insert(place, step);
        let ready = Ready { chain, id, job };
        match place {
            0 => self.ready.push_front(ready), // it is waited for
            _ => self.ready.push_back(ready),
        }
    }

    /// Who is to be woken: so many threads for these jobs, and whoever waits for a piece that is there. Each is
    /// named once: to wake somebody costs as much as a small step.
    pub(super) fn woken(&mut self, jobs: usize) -> (usize, bool) {
        let threads = jobs.min(self.idle);
        self.idle -= threads;
        let wanted = self.wanted.and_then(|chain| self.chains.get(chain));
        let is_there = wanted.is_some_and(|chain| {
            let first = chain.steps.front();
            first.is_none_or(|step| matches!(step.state, State::Done(_)))
        });
        if is_there {
            self.wanted = None;
        }
        (threads, is_there)
    }

    /// Takes the first step of a chain that is done; whether there is one at all.
    pub(super) fn take(&mut self, number: usize) -> Result<Option<Piece>, ()> {
        let chain = &mut self.chains[number];
        match chain.steps.front() {
            None => return Err(()),
            Some(step) if matches!(step.state, State::Doing) => return Ok(None),
            Some(_) => {}
        }
        let Some(mut step) = chain.steps.pop_front() else {
            return Err(());
        };
        if let Some(job) = step.then.pop_front() {
            self.begin_at(number, 0, step.file, job, step.then);
        }
        self.begin_steps(number);
        match step.state {
            State::Done(piece) => Ok(Some(piece)),
            State::Doing => Ok(None),
        }
    }

    pub(super) fn put(&mut self, number: usize, id: u64, outcome: Outcome) {
        let steps = &mut self.chains[number].steps;
        let Some(place) = steps.iter().position(|step| step.id == id) else {
            return; // it was of a part that is none
        };
        let file = steps[place].file;
        if outcome.in_place_of_parts {
            steps[place].then.clear();
            let mut at = 0;
            steps.retain(|step| {
                at += 1;
                at <= place + 1 || step.file != file
            });
        }
        let step = &mut steps[place];
        step.state = State::Done(outcome.piece);
        let behind = std::mem::replace(&mut step.then, outcome.then);
        step.then.extend(behind);
        self.begin_steps(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Listed {
        Listed::of("capture.pcapng".into(), true)
    }

    /// A file's parts stand before the files that were planned ahead, and as many of them are begun as if there were
    /// none of those.
    #[test]
    fn planned_files_leave_the_window_to_parts() {
        const WINDOW: usize = 8;
        let files = (0..3 * WINDOW).map(|_| file()).collect();
        let chain = Chain {
            files,
            ..Chain::default()
        };
        let mut desk = Desk {
            chains: vec![chain],
            window: WINDOW,
            ..Desk::default()
        };
        desk.begin_steps(0);
        let begun: Vec<Ready> = desk.ready.drain(..).collect();
        assert_eq!(begun.len(), WINDOW);
        // Each is planned, and has parts; what a part is does not matter here.
        for Ready { id, .. } in begun {
            let then = (0..50).map(|_| Job::File(file())).collect();
            let outcome = Outcome {
                then,
                ..Outcome::default()
            };
            desk.put(0, id, outcome);
        }
        assert_eq!(desk.ready.len(), WINDOW - 1);
        assert!(matches!(desk.take(0), Ok(Some(_))));
        assert_eq!(desk.ready.len(), WINDOW);
        assert!(matches!(desk.take(0), Ok(None)), "its part is being done");
    }
}
