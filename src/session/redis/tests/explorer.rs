//! Every order in which processes that refresh one session, a provider and a user can act, held against what must be true.
//!
//! Three processes come at the same time with a session whose token is due. Any of them may be killed at any step, or stand
//! still at any step for longer than its lease lasts; the provider may fail without having read a request; the user may
//! log out. What must be true, whatever the order:
//!
//! 1. **One at a time.** As long as nobody was killed or stood still with the lease, no refresh token is sent twice.
//! 2. **The stored token is the good one.** When all have finished, the token in the store is the one that the provider
//!    believes, unless the provider has revoked all, or somebody was killed after sending. So a holder that stood still
//!    cannot overwrite what a later one has brought.
//! 3. **Nobody is logged out for nothing.** A refresh ends a session only when a holder was killed after sending, or stood
//!    still for longer than lease and patience together, or the provider revokes all when a token comes twice and a holder
//!    stood still.
//! 4. **What has ended stays ended.**
//! 5. **Everybody finishes**, and no lease is left to somebody who lives.
//!
//! Two things are taken for granted: what a process has sent is read by the provider before what another process sends that
//! takes the lease over, seconds later; and nobody stands still for that long between a look at the own clock, which says
//! that the lease is good, and sending.

use std::collections::HashMap;

use super::model::{Begun, Replaced, Store};
use crate::session::redis::Word;

/// How a provider takes a token that comes a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Habit {
    /// As theft: it revokes every token of the login (RFC 9700 4.14.2).
    Revokes,
    /// It refuses it.
    Refuses,
    /// It gives new ones once more, and believes only the last.
    Repeats,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Provider {
    habit: Habit,
    believed: u8,
    issued: u8,
    revoked: bool,
    repeated: bool,
}

impl Provider {
    fn refresh(&mut self, token: u8) -> Answer {
        let again = token != self.believed;
        self.repeated |= again;
        if again && self.habit == Habit::Revokes {
            self.revoked = true;
        }
        if self.revoked || again && self.habit == Habit::Refuses {
            return Answer::InvalidGrant;
        }
        self.issued += 1;
        self.believed = self.issued;
        Answer::Renewed(self.issued)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Renewed(u8),
    InvalidGrant,
    /// It failed, and has not read the request.
    Failed,
}

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Load,
    Begin(u8),
    Send(u8),
    /// On the wire.
    Sent(u8),
    Answered(Answer),
    /// The provider has refused it, and the store knows.
    Denied,
    Finished,
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    step: Step,
    fence: u64,
    interrupted: bool,
    /// A token that it has brought too late, and the fence that it was asked for under.
    spare: Option<(u8, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "what has happened, each by itself")]
struct World {
    store: Store,
    /// The refresh token in the store.
    token: u8,
    provider: Provider,
    processes: [Process; 3],
    kills: u8,
    stills: u8,
    failures: u8,
    logouts: u8,
    /// How often somebody's patience may end before the one that stands still goes on.
    late: u8,
    killed_after_sending: bool,
    stood_still: bool,
    was_late: bool,
    logged_out: bool,
    refresh_ended_it: bool,
}

impl Process {
    /// Whether the store takes what came too late.
    fn keeps_spare(&self, store: &mut Store, token: &mut u8) -> bool {
        let Some((spare, fence)) = self.spare else { return false };
        let kept = store.replace(1, fence) == Replaced::Done;
        if kept {
            *token = spare;
        }
        kept
    }
}

impl World {
    fn new(habit: Habit, late: u8) -> Self {
        let process = Process { step: Step::Load, fence: 0, interrupted: false, spare: None };
        Self {
            store: Store::new(),
            token: 0,
            provider: Provider { habit, believed: 0, issued: 0, revoked: false, repeated: false },
            processes: [process; 3],
            kills: 1,
            stills: 2,
            failures: 1,
            logouts: 1,
            late,
            killed_after_sending: false,
            stood_still: false,
            was_late: false,
            logged_out: false,
            refresh_ended_it: false,
        }
    }

    /// Every world that one step of somebody leads to.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for who in 0..self.processes.len() {
            next.extend(self.goes_on(who));
            next.extend(self.loses_the_lease(who));
            next.extend(self.is_killed(who));
            next.extend(self.loses_patience(who));
            if let Step::Sent(_) = self.processes[who].step
                && self.failures > 0
            {
                let mut world = self.clone();
                world.failures -= 1;
                world.processes[who].step = Step::Answered(Answer::Failed);
                next.push(world);
            }
        }
        if self.logouts > 0 && self.store.there {
            let mut world = self.clone();
            world.logouts -= 1;
            world.logged_out = true;
            world.store.end();
            next.push(world);
        }
        next
    }

    /// The step that the program of `who` takes next.
    fn goes_on(&self, who: usize) -> Option<Self> {
        let mut world = self.clone();
        let store = &mut world.store;
        let process = &mut world.processes[who];
        process.step = match process.step {
            Step::Load | Step::Denied if !store.there || store.version > 0 => Step::Finished,
            // What came too late may be good by now: a later one was refused.
            Step::Load | Step::Denied if process.keeps_spare(store, &mut world.token) => Step::Finished,
            Step::Load => Step::Begin(world.token),
            Step::Begin(token) => match store.begin(who, 0, false) {
                Begun::Lease { fence, interrupted } => {
                    (process.fence, process.interrupted) = (fence, interrupted);
                    Step::Send(token)
                }
                Begun::Elsewhere => Step::Load,
                Begun::Gone => Step::Finished,
            },
            // Its own clock says that the lease is over.
            Step::Send(_) if store.lease != Some(who) => Step::Load,
            Step::Send(token) => Step::Sent(token),
            Step::Sent(token) => Step::Answered(world.provider.refresh(token)),
            Step::Answered(Answer::Renewed(token)) => match store.replace(1, process.fence) {
                Replaced::Done => {
                    world.token = token;
                    Step::Finished
                }
                Replaced::Stale | Replaced::Gone => Step::Finished,
                Replaced::Fenced => {
                    process.spare = Some((token, process.fence));
                    Step::Load
                }
            },
            Step::Answered(Answer::InvalidGrant) => {
                // Whoever has taken the lease over may have sent it before.
                process.interrupted |= !store.hold(who, (process.fence, process.interrupted), Word::Deny);
                Step::Denied
            }
            Step::Answered(Answer::Failed) => {
                store.hold(who, (process.fence, process.interrupted), Word::Leave);
                if process.spare.is_some() { Step::Load } else { Step::Finished }
            }
            // It is still fenced off by somebody: another attempt tells.
            Step::Denied if process.spare.is_some() => Step::Load,
            // Nobody else's token can have been read by the provider: there is nothing to wait for.
            Step::Denied if !process.interrupted => {
                store.end();
                world.refresh_ended_it = true;
                Step::Finished
            }
            Step::Denied | Step::Finished | Step::Killed => return None,
        };
        (world != *self).then_some(world)
    }

    /// Whoever was refused has waited for an earlier holder for long enough: it was killed, or stands still for too long.
    fn loses_patience(&self, who: usize) -> Option<Self> {
        let waits = self.processes[who].step == Step::Denied && self.processes[who].interrupted && self.store.there;
        if !waits || self.store.version > 0 || self.processes[who].spare.is_some() {
            return None;
        }
        let brings = |process: &Process| {
            matches!(process.step, Step::Answered(Answer::Renewed(_)))
                || process.spare.is_some() && !matches!(process.step, Step::Finished | Step::Killed)
        };
        let somebody_comes = self.processes.iter().any(brings);
        if somebody_comes && self.late == 0 {
            return None;
        }
        let mut world = self.clone();
        if somebody_comes {
            world.late -= 1;
            world.was_late = true;
        }
        world.store.end();
        world.refresh_ended_it = true;
        world.processes[who].step = Step::Finished;
        Some(world)
    }

    fn loses_the_lease(&self, who: usize) -> Option<Self> {
        let dead = self.processes[who].step == Step::Killed;
        // What was sent is read before anybody takes over.
        let unread = matches!(self.processes[who].step, Step::Sent(_));
        if self.store.lease != Some(who) || unread || !dead && self.stills == 0 {
            return None;
        }
        let mut world = self.clone();
        world.store.expire();
        if !dead {
            world.stills -= 1;
            world.stood_still = true;
        }
        Some(world)
    }

    fn is_killed(&self, who: usize) -> Option<Self> {
        if self.kills == 0 || matches!(self.processes[who].step, Step::Finished | Step::Killed) {
            return None;
        }
        let mut worlds = self.clone();
        worlds.kills -= 1;
        let step = self.processes[who].step;
        let sent = matches!(step, Step::Sent(_) | Step::Answered(_) | Step::Denied);
        worlds.killed_after_sending |= sent || self.processes[who].spare.is_some();
        if let Step::Sent(token) = step {
            // The request goes on without it.
            worlds.provider.refresh(token);
        }
        worlds.processes[who].step = Step::Killed;
        Some(worlds)
    }

    /// What must be true of a step from `self` to `next`.
    fn holds(&self, next: &Self) -> Result<(), &'static str> {
        let quiet = next.kills == 1 && !next.stood_still;
        if quiet && next.provider.repeated {
            return Err("1: a token was sent twice");
        }
        if next.refresh_ended_it {
            let excused =
                next.killed_after_sending || next.was_late || next.stood_still && next.provider.habit == Habit::Revokes;
            if !excused {
                return Err("3: somebody was logged out for nothing");
            }
        }
        if !self.store.there && next.store.there {
            return Err("4: what had ended is back");
        }
        Ok(())
    }

    /// What must be true when nobody has anything left to do.
    fn ends_well(&self) -> Result<(), &'static str> {
        let over = |process: &Process| matches!(process.step, Step::Finished | Step::Killed);
        if !self.processes.iter().all(over) {
            return Err("5: somebody never finishes");
        }
        let alive = |who: usize| self.processes[who].step != Step::Killed;
        if self.store.lease.is_some_and(alive) && self.store.there {
            return Err("5: a lease is left over");
        }
        let believed = self.token == self.provider.believed;
        if self.store.there && !self.provider.revoked && !self.killed_after_sending && !believed {
            return Err("2: the stored token is not the good one");
        }
        Ok(())
    }
}

/// Goes through all worlds; answers how many there are.
fn explore(habit: Habit, late: u8) -> usize {
    let first = World::new(habit, late);
    let mut came_from: HashMap<World, Option<World>> = HashMap::from([(first.clone(), None)]);
    let mut left = vec![first];
    while let Some(world) = left.pop() {
        let next = world.next();
        let nobody_goes_on = (0..world.processes.len()).all(|who| world.goes_on(who).is_none());
        // What can still happen to them is a kill or a logout, and neither has to.
        let nothing_has_to = next.iter().all(|next| next.logouts < world.logouts || next.kills < world.kills);
        if nobody_goes_on && nothing_has_to {
            world.ends_well().unwrap_or_else(|wrong| tell(wrong, &world, &came_from));
        }
        for next in next {
            if came_from.contains_key(&next) {
                continue;
            }
            let holds = world.holds(&next);
            came_from.insert(next.clone(), Some(world.clone()));
            holds.unwrap_or_else(|wrong| tell(wrong, &next, &came_from));
            left.push(next);
        }
    }
    came_from.len()
}

/// How it came to `world`, in which `wrong` is the case.
fn tell(wrong: &str, world: &World, came_from: &HashMap<World, Option<World>>) {
    let mut way = Vec::new();
    let mut at = Some(world);
    while let Some(world) = at {
        let steps: Vec<String> =
            world.processes.iter().map(|process| format!("{:?}/{}", process.step, process.fence)).collect();
        way.push(format!("{} token {} {:?} {:?}", steps.join("  "), world.token, world.store, world.provider));
        at = came_from.get(world).and_then(Option::as_ref);
    }
    way.reverse();
    panic!("{wrong}\n{}", way.join("\n"));
}

#[test]
fn px_15_px_17_the_lease_holds_in_every_order() {
    for habit in [Habit::Revokes, Habit::Refuses, Habit::Repeats] {
        for late in [0, 1] {
            let worlds = explore(habit, late);
            assert!(worlds > 10_000, "{habit:?}: {worlds} is not every order");
        }
    }
}
