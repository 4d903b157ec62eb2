//! Which Kustomization an object belongs to, when more than one names it.
//!
//! The one that has it in the cluster keeps it for as long as Git wants it there; when two are equal, the first by name
//! has it. One that has it and no longer wants it hands it over: nothing is deleted and made again. That holds also for one
//! that has to wait before it may begin; but what it will want keeps nobody from having it meanwhile.

use std::collections::{HashMap, HashSet};

use wickie_model::{ObjectId, ResourceName};

/// Who wants and who has what.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: HashMap<ObjectId, Vec<Claim>>,
    /// The objects that an owner has a claim on: what it wants is replaced without a look at everybody else's.
    objects: HashMap<ResourceName, HashSet<ObjectId>>,
    /// The owners whose objects are not in the agent's own cluster, and where they are.
    places: HashMap<ResourceName, String>,
    moves: u64,
}

#[derive(Debug)]
struct Claim {
    owner: ResourceName,
    wants: bool,
    /// Will want it, once it may begin.
    means: bool,
    has: bool,
}

impl Claims {
    /// Counts the changes: as long as this stays, every question has the answer that it had.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// Where an owner's objects are; nothing: in the agent's own cluster. Two of the same name in two clusters are two.
    pub(super) fn place(&mut self, owner: &ResourceName, place: Option<String>) {
        self.moves += 1;
        match place {
            Some(place) => drop(self.places.insert(owner.clone(), place)),
            None => drop(self.places.remove(owner)),
        }
    }

    fn together(&self, one: &ResourceName, other: &ResourceName) -> bool {
        self.places.is_empty() || self.places.get(one) == self.places.get(other)
    }

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
        self.moves += 1;
        let mut objects = self.objects.remove(owner).unwrap_or_default();
        for id in &objects {
            let own = self.claims.get_mut(id).into_iter().flatten().filter(|claim| claim.owner == *owner);
            own.for_each(|claim| *flag(claim) = false);
        }
        for id in ids {
            let claims = self.claims.entry(id.clone()).or_default();
            let index = match claims.iter().position(|claim| claim.owner == *owner) {
                Some(index) => index,
                None => {
                    objects.insert(id.clone());
                    // Nearly every object has one owner.
                    claims.reserve_exact(1);
                    claims.push(Claim { owner: owner.clone(), wants: false, means: false, has: false });
                    claims.len() - 1
                }
            };
            *flag(&mut claims[index]) = true;
        }
        objects.retain(|id| {
            let Some(claims) = self.claims.get_mut(id) else { return false };
            claims.retain(|claim| claim.wants || claim.means || claim.has);
            let kept = claims.iter().any(|claim| claim.owner == *owner);
            if claims.is_empty() {
                self.claims.remove(id);
            }
            kept
        });
        if !objects.is_empty() {
            self.objects.insert(owner.clone(), objects);
        }
    }

    /// The id of an object that anybody has a claim on, as it is kept here.
    pub(super) fn known(&self, id: &ObjectId) -> Option<&ObjectId> {
        self.claims.get_key_value(id).map(|(known, _)| known)
    }

    /// Who else the object belongs to, where it is not `owner`'s.
    pub(super) fn other(&self, id: &ObjectId, owner: &ResourceName) -> Option<&ResourceName> {
        let claims = self.claims.get(id)?;
        let wanting = claims.iter().filter(|claim| claim.wants && self.together(&claim.owner, owner));
        let first = wanting.min_by_key(|claim| (!claim.has, &claim.owner))?;
        (first.owner != *owner).then_some(&first.owner)
    }

    /// To whom an object goes that `owner` no longer wants.
    pub(super) fn heir(&self, id: &ObjectId, owner: &ResourceName) -> Option<&ResourceName> {
        let other = |claim: &&Claim| claim.means && claim.owner != *owner && self.together(&claim.owner, owner);
        let means = || self.claims.get(id)?.iter().find(other);
        self.other(id, owner).or_else(|| means().map(|claim| &claim.owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ObjectId {
        ObjectId::new("", "ConfigMap", "shop", "a")
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
    fn what_is_of_one_name_in_two_clusters_is_two() {
        let (a, b, c, id) = (named("a"), named("b"), named("c"), id());
        let mut claims = Claims::default();
        for owner in [&a, &b, &c] {
            claims.want(owner, [&id]);
        }
        claims.place(&b, Some("https://edge".to_owned()));
        assert_eq!((claims.other(&id, &a), claims.other(&id, &b), claims.other(&id, &c)), (None, None, Some(&a)));
        claims.want(&b, []);
        assert_eq!(claims.heir(&id, &b), None, "it goes to nobody of another cluster");
        claims.want(&b, [&id]);
        claims.place(&c, Some("https://edge".to_owned()));
        assert_eq!((claims.other(&id, &c), claims.other(&id, &a)), (Some(&b), None));
        claims.place(&b, None);
        assert_eq!((claims.other(&id, &c), claims.other(&id, &b)), (None, Some(&a)));
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
        assert!(claims.claims.is_empty() && claims.objects.is_empty());
    }
}
