//! Which Kustomization an object belongs to, when more than one names it.
//!
//! The one that has it in the cluster keeps it for as long as Git wants it there; when two are equal, the first by name
//! has it. One that has it and no longer wants it hands it over: nothing is deleted and made again. That holds also for one
//! that has to wait before it may begin; but what it will want keeps nobody from having it meanwhile.

use std::collections::HashMap;

use wickie_model::{ObjectId, ResourceName};

/// Who wants and who has what.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<ObjectId, Vec<Claim>>);

#[derive(Debug)]
struct Claim {
    owner: ResourceName,
    wants: bool,
    /// Will want it, once it may begin.
    means: bool,
    has: bool,
}

impl Claims {
    /// Replaces all that `owner` wants.
    pub(super) fn want<'a>(&mut self, owner: &ResourceName, ids: impl IntoIterator<Item = &'a ObjectId>) {
        self.replace(owner, [], |claim| &mut claim.means);
        self.replace(owner, ids, |claim| &mut claim.wants);
    }

    /// Replaces all that `owner` will want once it may begin.
    pub(super) fn mean<'a>(&mut self, owner: &ResourceName, ids: impl IntoIterator<Item = &'a ObjectId>) {
        self.replace(owner, ids, |claim| &mut claim.means);
    }

    /// Replaces all that `owner` has.
    pub(super) fn have<'a>(&mut self, owner: &ResourceName, ids: impl IntoIterator<Item = &'a ObjectId>) {
        self.replace(owner, ids, |claim| &mut claim.has);
    }

    fn replace<'a>(
        &mut self,
        owner: &ResourceName,
        ids: impl IntoIterator<Item = &'a ObjectId>,
        flag: fn(&mut Claim) -> &mut bool,
    ) {
        for claims in self.0.values_mut() {
            claims.iter_mut().filter(|claim| claim.owner == *owner).for_each(|claim| *flag(claim) = false);
        }
        for id in ids {
            let claims = self.0.entry(id.clone()).or_default();
            let index = match claims.iter().position(|claim| claim.owner == *owner) {
                Some(index) => index,
                None => {
                    claims.push(Claim { owner: owner.clone(), wants: false, means: false, has: false });
                    claims.len() - 1
                }
            };
            *flag(&mut claims[index]) = true;
        }
        self.0.retain(|_, claims| {
            claims.retain(|claim| claim.wants || claim.means || claim.has);
            !claims.is_empty()
        });
    }

    /// Who else the object belongs to, where it is not `owner`'s.
    pub(super) fn other(&self, id: &ObjectId, owner: &ResourceName) -> Option<&ResourceName> {
        let claims = self.0.get(id)?;
        let first = claims.iter().filter(|claim| claim.wants).min_by_key(|claim| (!claim.has, &claim.owner))?;
        (first.owner != *owner).then_some(&first.owner)
    }

    /// To whom an object goes that `owner` no longer wants.
    pub(super) fn heir(&self, id: &ObjectId, owner: &ResourceName) -> Option<&ResourceName> {
        let means = || self.0.get(id)?.iter().find(|claim| claim.means && claim.owner != *owner);
        self.other(id, owner).or_else(|| means().map(|claim| &claim.owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ObjectId {
        ObjectId { group: String::new(), kind: "ConfigMap".into(), namespace: "shop".into(), name: "a".into() }
    }

    fn named(name: &str) -> ResourceName {
        ResourceName::new("flux-system", name)
    }

    #[test]
    fn the_one_that_has_it_keeps_it_while_it_wants_it() {
        let (a, b, id) = (named("a"), named("b"), id());
        let mut claims = Claims::default();
        claims.want(&b, [&id]);
        claims.have(&b, [&id]);
        claims.want(&a, [&id]);
        assert_eq!((claims.other(&id, &a), claims.other(&id, &b)), (Some(&b), None));
        claims.want(&b, []);
        assert_eq!((claims.other(&id, &a), claims.other(&id, &b)), (None, Some(&a)));
    }

    #[test]
    fn what_one_will_want_is_left_to_it_and_kept_from_nobody() {
        let (a, b, id) = (named("a"), named("b"), id());
        let mut claims = Claims::default();
        claims.have(&b, [&id]);
        claims.mean(&a, [&id]);
        assert_eq!((claims.other(&id, &b), claims.heir(&id, &b)), (None, Some(&a)));
        claims.want(&b, [&id]);
        assert_eq!((claims.other(&id, &b), claims.other(&id, &a)), (None, Some(&b)));
        claims.want(&a, []);
        claims.want(&b, []);
        assert_eq!(claims.heir(&id, &b), None);
    }

    #[test]
    fn of_two_equals_the_first_by_name_has_it() {
        let (a, b, id) = (named("a"), named("b"), id());
        let mut claims = Claims::default();
        claims.want(&b, [&id]);
        claims.want(&a, [&id]);
        assert_eq!((claims.other(&id, &a), claims.other(&id, &b)), (None, Some(&a)));
        claims.want(&a, []);
        assert_eq!(claims.other(&id, &b), None);
        claims.want(&b, []);
        assert!(claims.0.is_empty());
    }
}
