//! One call on its way to an answer: which endpoints were asked, and when the next one is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::Client;
use crate::clock::Moment;
use crate::error::{Code, Error, Problem};
use crate::exchange::{Call, Failure, Reply};
use crate::retry::Course;
use crate::verdict::{Setback, Verdict, judge};
use crate::waiting::{STANDING_MIN, Waiting};

/// How recent a setback is that tells more than a newer one.
const RECENT: Duration = Duration::from_secs(10);

/// A request that has stood for this long is in line: without a leader it would have been answered.
const STANDING_SURELY: Duration = Duration::from_secs(6);

/// A request that came to its end.
struct Landed {
    number: u64,
    outcome: Result<Result<Reply, Failure>, Error>,
}

/// A request under way.
struct Flying {
    number: u64,
    endpoint: usize,
    sent: Moment,
}

/// A call under way. Dropping it drops every request that is still open.
///
/// While the newest request is silent the next endpoint is asked too, and the first usable answer
/// wins. That is safe because every copy of an operation has the same `Idempotency-Key`: it is carried
/// out once, whichever copy comes first, and each copy is answered with the same. What makes something
/// without such a name goes out in one copy.
pub(crate) struct Flight<'a> {
    client: &'a Client,
    call: Call,
    waiting: Option<Waiting>,
    course: Course,
    requests: JoinSet<Landed>,
    flying: Vec<Flying>,
    count: u64,
    /// When the next request goes out.
    next: Option<Moment>,
    /// What to report if nothing comes of it, and from when it is.
    trouble: Option<(Moment, Setback)>,
}

impl<'a> Flight<'a> {
    pub(crate) fn new(client: &'a Client, call: Call, waiting: Option<Waiting>) -> Self {
        Self {
            client,
            call,
            waiting,
            course: Course::default(),
            requests: JoinSet::new(),
            flying: Vec::new(),
            count: 0,
            next: None,
            trouble: None,
        }
    }

    /// Sends the call until a node answers it.
    pub(crate) async fn answer(mut self) -> Result<Reply, Error> {
        self.send()?;
        loop {
            let next = self.next;
            let landed = tokio::select! {
                biased;
                Some(landed) = self.requests.join_next() => landed,
                () = tokio::time::sleep(next.map_or(Duration::ZERO, Moment::left)),
                    if next.is_some() => {
                    self.send()?;
                    continue;
                }
                else => return Err(self.given_up()),
            };
            let Landed { number, outcome } =
                landed.map_err(|error| Error::Request(error.to_string()))?;
            let Some(at) = self
                .flying
                .iter()
                .position(|flying| flying.number == number)
            else {
                continue;
            };
            let flying = self.flying.remove(at);
            match judge(outcome?, self.client.endpoint(flying.endpoint)) {
                Verdict::Hopeless(error) => return Err(error),
                Verdict::Answer(reply) => {
                    self.client.answered(flying.endpoint);
                    match self.ended_early(&reply)? {
                        Some(call) => {
                            self.call = call;
                            self.send()?;
                        }
                        None => return Ok(reply),
                    }
                }
                Verdict::Setback(setback) => self.set_back(&flying, setback)?,
            }
        }
    }

    /// Asks the next endpoint, and settles when the one after it is asked.
    fn send(&mut self) -> Result<(), Error> {
        let now = Moment::now();
        self.next = None;
        if let Some(waiting) = &mut self.waiting {
            if waiting.stands(now) && is_standing(&self.flying, now) {
                self.course.stood();
            }
            if let Some(call) = waiting.renew(now)? {
                self.call = call;
            }
        }
        let Some(endpoint) = self.free_endpoint() else {
            return Ok(());
        };
        let grace = self.client.answer_grace;
        let limit = (self.waiting.as_ref()).map_or(grace, |waiting| waiting.limit(now, grace));
        self.count += 1;
        let (number, call) = (self.count, self.call.clone());
        let exchange = self.client.exchange.clone();
        let target = self.client.endpoint(endpoint).clone();
        self.requests.spawn(async move {
            let outcome = exchange.send(&target, &call, limit).await;
            Landed { number, outcome }
        });
        self.flying.push(Flying {
            number,
            endpoint,
            sent: now,
        });
        self.next = self.relief(now).map(|relief| now.plus(relief));
        Ok(())
    }

    /// How long the newest request is given before the next endpoint is asked too.
    fn relief(&self, now: Moment) -> Option<Duration> {
        let endpoints = self.client.endpoints().len();
        let hedge = self.client.hedge_after(&self.call);
        match &self.waiting {
            Some(waiting) if waiting.stands(now) => {
                let relief = waiting.relief(endpoints);
                let alone = self.flying.len() == 1 && endpoints > 1;
                Some(if alone { relief.min(hedge) } else { relief })
            }
            _ if self.call.makes.is_some() => None,
            _ => self.free_endpoint().map(|_| hedge),
        }
    }

    /// Where to go next: the first endpoint, from the one that answered last, at which no request of
    /// this call is open. A wait may stand at one endpoint twice while one request relieves another.
    fn free_endpoint(&self) -> Option<usize> {
        let count = self.client.endpoints().len();
        let first = self.client.current.load(Ordering::Relaxed);
        let mut round = (0..count).map(|step| first.wrapping_add(step) % count);
        let free = round.find(|endpoint| !self.flying.iter().any(|f| f.endpoint == *endpoint));
        let is_wait = self.waiting.as_ref().is_some_and(Waiting::is_patient);
        free.or_else(|| {
            let newest = self.flying.last().filter(|_| is_wait)?;
            Some((newest.endpoint + 1) % count)
        })
    }

    /// The next part of a wait, if this answer ended one that was to go on.
    fn ended_early(&mut self, reply: &Reply) -> Result<Option<Call>, Error> {
        let Some(waiting) = self.waiting.as_mut().filter(|_| reply.status == 423) else {
            return Ok(None);
        };
        let problem = Problem::read(reply.status, None, &reply.body);
        if problem.code != Code::LockHeld {
            return Ok(None);
        }
        waiting.again(Moment::now())
    }

    /// A request came to nothing: settles when the next one goes out, or gives up.
    fn set_back(&mut self, flying: &Flying, setback: Setback) -> Result<(), Error> {
        let now = Moment::now();
        if let (Some(what), true) = (self.call.makes, setback.in_doubt) {
            return Err(Error::MayBeMade {
                what,
                endpoint: self.client.endpoint(flying.endpoint).to_string(),
                why: setback.error.why(),
            });
        }
        let mut since = flying.sent;
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.stands(now)) {
            let stood = stood(flying, now);
            if setback.timed_out {
                // Its slice is over. Where another request stands, it has taken over already.
                if self.flying.is_empty() {
                    self.course.stood();
                    self.next = Some(now);
                }
                return Ok(());
            }
            if stood >= STANDING_MIN && setback.cut {
                waiting.was_cut(stood);
                self.course.stood();
                since = now;
            }
            if is_standing(&self.flying, now) {
                self.course.stood();
                since = now;
            }
        }
        self.client.leave(flying.endpoint);
        let random = getrandom::u64().map_err(|error| Error::Request(error.to_string()))?;
        let pause = self.course.pause(since, now, setback.stay_away, random);
        let again = pause.map(|pause| now.plus(pause));
        self.next = match (again, self.next) {
            // The caller is asked to stay away: that holds for every endpoint.
            (Some(again), _) if setback.stay_away > Duration::ZERO => Some(again),
            (Some(again), Some(next)) => Some(again.min(next)),
            (again, _) => again,
        };
        self.note(now, setback);
        match again {
            Some(_) => Ok(()),
            None => Err(self.given_up()),
        }
    }

    /// Keeps the setback that tells most: that a node answers "no leader" says more than that
    /// another is down.
    fn note(&mut self, now: Moment, setback: Setback) {
        let kept = self.trouble.as_ref().is_some_and(|(since, kept)| {
            kept.weight > setback.weight && now.since(*since) < RECENT
        });
        if !kept {
            self.trouble = Some((now, setback));
        }
        self.client
            .tell(self.trouble.as_ref().map(|(_, told)| &told.error));
    }

    fn given_up(&mut self) -> Error {
        match self.trouble.take() {
            Some((_, setback)) => setback.error,
            None => Error::Request("no request was sent".to_owned()),
        }
    }
}

fn stood(flying: &Flying, now: Moment) -> Duration {
    now.since(flying.sent)
}

fn is_standing(flying: &[Flying], now: Moment) -> bool {
    flying.iter().any(|f| stood(f, now) >= STANDING_SURELY)
}
