//! What happens to a request on its way, decided by a seed.

use std::time::Duration;

use glint_world::Random;

/// How likely each fault is, from 0 to 1; what is left passes unharmed.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The request never reaches the server; the client's connection breaks.
    pub drop: f64,
    /// The server gets the first bytes of the request only; both connections break.
    pub cut_request: f64,
    /// The server acts on the request; the client gets the first bytes of the answer only.
    pub cut_reply: f64,
    /// The request takes longer, so that those of other connections overtake it.
    pub delay: f64,
    /// The client's connection breaks at once, the server gets the request later: often after the client's retry.
    pub late: f64,
    /// The server gets the request twice in a row; the client gets the second answer.
    pub twice: f64,
    /// The request passes, and arrives once more later, after newer ones.
    pub replay: f64,
    /// The server acts on the request, and the answer comes when the client has given the request up and sent it again.
    pub late_answer: f64,
    /// The longest that anything is held back.
    pub hold: Duration,
    /// How long answers take that are late: longer than a client waits for one.
    pub answer_after: Duration,
}

impl Faults {
    /// Everything passes.
    pub const NONE: Self = Self {
        drop: 0.0,
        cut_request: 0.0,
        cut_reply: 0.0,
        delay: 0.0,
        late: 0.0,
        twice: 0.0,
        replay: 0.0,
        late_answer: 0.0,
        hold: Duration::ZERO,
        answer_after: Duration::ZERO,
    };
    /// About every fourth request suffers, in every way there is.
    pub const HARSH: Self = Self {
        drop: 0.03,
        cut_request: 0.03,
        cut_reply: 0.05,
        delay: 0.05,
        late: 0.03,
        twice: 0.03,
        replay: 0.05,
        hold: Duration::from_millis(20),
        ..Self::NONE
    };
    /// The server acts, and the answer is always cut.
    pub const NO_ANSWER: Self = Self {
        cut_reply: 1.0,
        ..Self::NONE
    };
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Pass,
    Drop,
    /// Where it is cut, as a fraction of its bytes.
    CutRequest(f64),
    CutReply(f64),
    Delay(Duration),
    Late(Duration),
    Twice,
    Replay(Duration),
    LateAnswer(Duration),
}

impl Faults {
    /// Draws the fate of the next request.
    pub(super) fn draw(&self, random: &Random) -> Fate {
        let (mut dice, amount) = (random.unit(), random.unit());
        let hold = self.hold.mul_f64(amount);
        for (chance, fate) in [
            (self.drop, Fate::Drop),
            (self.cut_request, Fate::CutRequest(amount)),
            (self.cut_reply, Fate::CutReply(amount)),
            (self.delay, Fate::Delay(hold)),
            (self.late, Fate::Late(hold)),
            (self.twice, Fate::Twice),
            (self.replay, Fate::Replay(hold)),
            (self.late_answer, Fate::LateAnswer(self.answer_after)),
        ] {
            if dice < chance {
                return fate;
            }
            dice -= chance;
        }
        Fate::Pass
    }
}

/// How many requests met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after the fault it counts")]
pub struct Suffered {
    pub requests: u64,
    pub drop: u64,
    pub cut_request: u64,
    pub cut_reply: u64,
    pub delay: u64,
    pub late: u64,
    pub twice: u64,
    pub replay: u64,
    pub late_answer: u64,
}

impl Suffered {
    pub(super) fn count(&mut self, fate: Fate) {
        self.requests += 1;
        match fate {
            Fate::Pass => {}
            Fate::Drop => self.drop += 1,
            Fate::CutRequest(_) => self.cut_request += 1,
            Fate::CutReply(_) => self.cut_reply += 1,
            Fate::Delay(_) => self.delay += 1,
            Fate::Late(_) => self.late += 1,
            Fate::Twice => self.twice += 1,
            Fate::Replay(_) => self.replay += 1,
            Fate::LateAnswer(_) => self.late_answer += 1,
        }
    }

    /// Whether every kind of fault of [`Faults::HARSH`] happened: a test of faults that met none proves nothing.
    pub fn everything(&self) -> bool {
        [
            self.drop,
            self.cut_request,
            self.cut_reply,
            self.delay,
            self.late,
            self.twice,
            self.replay,
        ]
        .iter()
        .all(|&count| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_fate_and_all_of_them_occur() {
        let fates = |seed| {
            let random = Random::from_seed(seed);
            (0..1000)
                .map(|_| Faults::HARSH.draw(&random))
                .collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        let mut suffered = Suffered::default();
        for fate in fates(1) {
            suffered.count(fate);
        }
        assert!(suffered.everything(), "{suffered:?}");
        let random = Random::from_seed(3);
        assert!((0..100).all(|_| Faults::NONE.draw(&random) == Fate::Pass));
    }
}
