//! Which Kustomization an object belongs to, when more than one names it.
//!
//! The one that has it in the cluster keeps it for as long as Git wants it there; when two are equal, the first by name
//! has it. One that has it and no longer wants it hands it over: nothing is deleted and made again.

use std::collections::HashMap;

use wickie_model::{ObjectId, ResourceName};

/// Who wants and who has what.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<ObjectId, Vec<Claim>>);

#[derive(Debug)]
struct Claim {
    owner: ResourceName,
    wants: bool,
    has: bool,
}

impl Claims {
    /// Replaces all that `owner` wants.
    pub(super) fn want<'a>(&mut self, owner: &ResourceName, ids: impl IntoIterator<Item = &'a ObjectId>) {
        self.replace(owner, ids, |claim| &mut claim.wants);
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
                    claims.push(Claim { owner: owner.clone(), wants: false, has: false });
                    claims.len() - 1
                }
            };
            *flag(&mut claims[index]) = true;
        }
        self.0.retain(|_, claims| {
            claims.retain(|claim| claim.wants || claim.has);
            !claims.is_empty()
        });
    }

    /// Who else the object belongs to, where it is not `owner`'s.
    pub(super) fn other(&self, id: &ObjectId, owner: &ResourceName) -> Option<&ResourceName> {
        let claims = self.0.get(id)?;
        let first = claims.iter().filter(|claim| claim.wants).min_by_key(|claim| (!claim.has, &claim.owner))?;
        (first.owner != *owner).then_some(&first.owner)
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
