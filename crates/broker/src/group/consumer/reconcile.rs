//! One step of a member towards its target assignment.
//!
//! ```text
//!              it has more than its target        it lacks what others hold
//!   Stable ──────────────────────> Unrevoked ──────────────────> Unreleased
//!     ▲  ▲                          │  (epoch stays)                 │   (epoch is the target's)
//!     │  └── it lacks nothing ──────┘ it says it let go              │
//!     └──────────────────────────────────────────────────────────────┘ others let go
//! ```
//!
//! A pure function of the member, its target and who holds what. A member in `Unrevoked` keeps its
//! epoch: what it commits of the partitions it gives up is still taken.

use uuid::Uuid;

use super::member::{Member, MemberState, contains, difference, extend, filter};
use super::message::Assignment;

/// Takes the step; whether what the member is assigned is something else now.
///
/// `owned` is what the member says it has, if it says so; `is_free` whether no other member holds
/// a partition.
pub(super) fn reconcile(
    member: &mut Member,
    epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    is_free: impl Fn(Uuid, i32) -> bool,
) -> bool {
    match member.state {
        MemberState::Stable if member.epoch == epoch => false,
        MemberState::Unrevoked if still_owns(owned, &member.revoking) => give_up_unsubscribed(member),
        _ => advance(member, epoch, target, owned, is_free),
    }
}

/// A member that says nothing of what it owns may own all of it.
fn still_owns(owned: Option<&Assignment>, revoking: &Assignment) -> bool {
    let overlaps = |owned: &Assignment| {
        let mut partitions = owned.iter().flat_map(|(topic, partitions)| partitions.iter().map(|p| (*topic, *p)));
        partitions.any(|(topic, partition)| contains(revoking, topic, partition))
    };
    !revoking.is_empty() && owned.is_none_or(overlaps)
}

/// What it does not subscribe to any more it gives up together with what it gives up already.
fn give_up_unsubscribed(member: &mut Member) -> bool {
    let kept = filter(&member.assigned, |topic, _| member.subscribed.contains(&topic));
    if kept == member.assigned {
        return false;
    }
    let dropped = difference(&member.assigned, &kept);
    extend(&mut member.revoking, dropped);
    member.assigned = kept;
    true
}

fn advance(
    member: &mut Member,
    epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    is_free: impl Fn(Uuid, i32) -> bool,
) -> bool {
    let mut assigned = filter(&member.assigned, |topic, partition| contains(target, topic, partition));
    let revoking = difference(&member.assigned, &assigned);
    member.previous_epoch = member.epoch;
    if still_owns(owned, &revoking) {
        member.state = MemberState::Unrevoked;
        member.revoking = revoking;
    } else {
        let wanted = difference(target, &assigned);
        let free = filter(&wanted, is_free);
        member.state = if free == wanted { MemberState::Stable } else { MemberState::Unreleased };
        extend(&mut assigned, free);
        member.revoking = Assignment::new();
        member.epoch = epoch;
    }
    let changed = assigned != member.assigned;
    member.assigned = assigned;
    changed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);

    fn of(partitions: &[i32]) -> Assignment {
        if partitions.is_empty() {
            return Assignment::new();
        }
        Assignment::from([(TOPIC, partitions.iter().copied().collect())])
    }

    /// State, epoch, assigned and given up, of the only topic.
    type Shown = (MemberState, i32, Vec<i32>, Vec<i32>);

    fn shown(member: &Member) -> Shown {
        let list = |assignment: &Assignment| assignment.values().flatten().copied().collect();
        (member.state, member.epoch, list(&member.assigned), list(&member.revoking))
    }

    fn member((state, epoch, assigned, revoking): (MemberState, i32, &[i32], &[i32])) -> Member {
        let subscribed = BTreeSet::from([TOPIC]).into();
        Member { state, epoch, assigned: of(assigned), revoking: of(revoking), subscribed, ..Member::default() }
    }

    #[test]
    fn each_state_takes_its_step() {
        use MemberState::{Stable, Unreleased, Unrevoked};
        /// A member; epoch and partitions of its target, what it says it owns, what others hold.
        type Case<'a> = (
            (MemberState, i32, &'a [i32], &'a [i32]),
            (i32, &'a [i32]),
            Option<&'a [i32]>,
            &'a [i32],
            (MemberState, i32, &'a [i32], &'a [i32]),
        );
        let cases: [Case<'_>; 10] = [
            // At its target nothing happens.
            ((Stable, 5, &[1], &[]), (5, &[1]), None, &[], (Stable, 5, &[1], &[])),
            // More that is free is given at once.
            ((Stable, 5, &[1], &[]), (6, &[1, 2]), None, &[], (Stable, 6, &[1, 2], &[])),
            // What others hold is waited for; the rest is given.
            ((Stable, 5, &[], &[]), (6, &[1, 2]), None, &[2], (Unreleased, 6, &[1], &[])),
            ((Unreleased, 6, &[1], &[]), (6, &[1, 2]), None, &[2], (Unreleased, 6, &[1], &[])),
            ((Unreleased, 6, &[1], &[]), (6, &[1, 2]), None, &[], (Stable, 6, &[1, 2], &[])),
            // What it must give up comes first, at the old epoch.
            ((Stable, 5, &[1, 2], &[]), (6, &[1, 3]), None, &[], (Unrevoked, 5, &[1], &[2])),
            ((Unrevoked, 5, &[1], &[2]), (6, &[1, 3]), None, &[], (Unrevoked, 5, &[1], &[2])),
            ((Unrevoked, 5, &[1], &[2]), (6, &[1, 3]), Some(&[1, 2]), &[], (Unrevoked, 5, &[1], &[2])),
            ((Unrevoked, 5, &[1], &[2]), (6, &[1, 3]), Some(&[1]), &[], (Stable, 6, &[1, 3], &[])),
            // What it never took is not waited for.
            ((Stable, 5, &[1, 2], &[]), (6, &[1]), Some(&[1]), &[], (Stable, 6, &[1], &[])),
        ];
        for (at, (before, target, owned, held, after)) in cases.into_iter().enumerate() {
            let mut stepped = member(before);
            let owned = owned.map(of);
            let changed = reconcile(&mut stepped, target.0, &of(target.1), owned.as_ref(), |_, p| !held.contains(&p));
            assert_eq!(shown(&stepped), shown(&member(after)), "case {at}");
            assert_eq!(changed, before.2 != after.2, "case {at}");
        }
    }

    #[test]
    fn a_subscription_given_up_meanwhile_is_given_up_too() {
        let mut stepped = member((MemberState::Unrevoked, 5, &[1], &[2]));
        stepped.subscribed = BTreeSet::new().into();
        assert!(reconcile(&mut stepped, 7, &of(&[]), Some(&of(&[1, 2])), |_, _| true));
        assert_eq!(shown(&stepped), (MemberState::Unrevoked, 5, vec![], vec![1, 2]));
        assert!(!reconcile(&mut stepped, 7, &of(&[]), Some(&of(&[])), |_, _| true));
        assert_eq!(shown(&stepped), (MemberState::Stable, 7, vec![], vec![]));
    }
}
