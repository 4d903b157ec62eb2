//! The Lease: of the agents of three nodes one writes, whatever befalls it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use wickie_testbench::audit::AuditEvent;
use wickie_testbench::{Agent, AgentOptions, ApiProxy, ApiProxyOptions, ControlPlane, Fleet, eventually};

use crate::node::*;

/// How many objects Git holds.
const OBJECTS: usize = 8;

/// How long the Lease lasts.
const LASTS: SignedDuration = SignedDuration::from_secs(3);

/// How long a request may take: `REQUEST_TIMEOUT` of the agent.
const REQUEST: SignedDuration = SignedDuration::from_secs(30);

/// A node: its agent, and its own way to the API server.
struct Node {
    name: String,
    proxy: ApiProxy,
    options: AgentOptions,
}

impl Node {
    fn new(control_plane: &ControlPlane, fleet: &Fleet, name: &str) -> Self {
        let user = ApiProxyOptions { user: name.to_owned(), ..ApiProxyOptions::default() };
        let proxy = ApiProxy::start_with(control_plane, &user).unwrap();
        let folder = fleet.scratch.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut options = fleet.options();
        options.kubeconfig = Some(proxy.kubeconfig());
        options.data_dir = folder.join("data");
        options.env.push(("NODE_NAME".to_owned(), name.to_owned()));
        options.args.push(format!("--lease={}s", LASTS.as_secs()).into());
        Self { name: name.to_owned(), proxy, options }
    }

    fn start(&self) -> Agent {
        Agent::spawn(self.options.clone()).unwrap()
    }
}

/// A fleet on a control plane of its own, for an agent that comes to write looks for what others have put into the cluster.
struct World {
    _control_plane: ControlPlane,
    fleet: Fleet,
    leases: Api<Lease>,
    maps: Api<ConfigMap>,
    nodes: Vec<Node>,
}

impl World {
    async fn new(name: &str, nodes: usize) -> Self {
        let (control_plane, fleet, client) = fleet_alone(name).await;
        fleet.follow("1s").unwrap();
        fleet.keep("apps", "").unwrap();
        let nodes = (0..nodes).map(|index| Node::new(&control_plane, &fleet, &format!("node-{index}"))).collect();
        let leases = Api::namespaced(client.clone(), &fleet.home);
        let maps = maps(&fleet, &client);
        Self { _control_plane: control_plane, fleet, leases, maps, nodes }
    }

    fn commit(&self, value: &str) -> String {
        for index in 0..OBJECTS {
            self.fleet.write_map(&format!("{index}.yaml"), &format!("a{index}"), value).unwrap();
        }
        self.fleet.commit(value).unwrap()
    }

    /// Who holds the Lease, and how often it went from one to another.
    async fn holder(&self) -> anyhow::Result<(String, i32)> {
        let spec = self.leases.get("wickie").await?.spec.context("a Lease has a spec")?;
        Ok((spec.holder_identity.context("somebody holds it")?, spec.lease_transitions.unwrap_or(0)))
    }

    /// Waits until one of the nodes holds the Lease, and not `other`.
    async fn held(&self, other: Option<usize>) -> usize {
        eventually("the Lease is held", LONG, || async {
            let (holder, _) = self.holder().await?;
            let index = self.nodes.iter().position(|node| node.name == holder).context(holder)?;
            ensure!(Some(index) != other, "still by {}", self.nodes[index].name);
            Ok(index)
        })
        .await
    }

    /// Waits until every object has this value.
    async fn all_have(&self, value: &str) {
        eventually(&format!("all objects are {value}"), LONG, || async {
            for index in 0..OBJECTS {
                let found = value_of(&self.maps, &format!("a{index}")).await?;
                ensure!(found.as_deref() == Some(value), "a{index} is {found:?}");
            }
            Ok(())
        })
        .await;
    }
}

/// What befalls a holder.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Killed,
    Frozen,
    CutOff,
}

/// What the API server's audit log says of who wrote when.
#[derive(Debug, Default)]
struct Writes {
    /// In all.
    writes: usize,
    /// After the writer's Lease had run out.
    late: usize,
    /// By how much, at the most.
    latest: SignedDuration,
    /// After another one had the Lease.
    overtaken: usize,
    /// From the last renewal of one to the first of the next.
    takeovers: Vec<SignedDuration>,
}

fn writes(audit: &[AuditEvent], nodes: &[Node]) -> Writes {
    let mut events: Vec<_> = audit.iter().filter(|event| event.writes() && event.stage == "ResponseComplete").collect();
    events.sort_by_key(|event| event.received);
    let mut all = Writes::default();
    let mut renewed: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut holder: Option<&str> = None;
    for event in events {
        let Some(node) = nodes.iter().find(|node| event.user.username == node.name) else { continue };
        assert!(event.user_agent.contains(&format!("({})", node.name)), "{}", event.user_agent);
        if event.object_ref.resource == "leases" {
            if event.response_status.code < 300 {
                if let Some(before) = holder.filter(|before| *before != node.name) {
                    all.takeovers.push(event.received.duration_since(renewed[before]));
                }
                holder = Some(&node.name);
                renewed.insert(&node.name, event.received);
            }
            continue;
        }
        let since = renewed.get(node.name.as_str()).copied();
        assert!(since.is_some(), "{} never held it: {event:?}", node.name);
        let late = event.received.duration_since(since.unwrap_or_default()) - LASTS;
        all.writes += 1;
        all.overtaken += usize::from(holder != Some(&node.name));
        if late > SignedDuration::ZERO {
            all.late += 1;
            all.latest = all.latest.max(late);
        }
    }
    all.takeovers.sort();
    all
}

/// So many times something befalls the holder; more where `WICKIE_TAKEOVERS` says so.
#[tokio::test]
async fn one_of_three_writes_whatever_befalls_the_holder() {
    let rounds = std::env::var("WICKIE_TAKEOVERS").ok().and_then(|rounds| rounds.parse().ok());
    let world = World::new("lease", 3).await;
    world.commit("0");
    let mut agents: Vec<_> = world.nodes.iter().map(Node::start).collect();
    world.all_have("0").await;
    for round in 1..=rounds.unwrap_or(6) {
        let holder = world.held(None).await;
        // It is at work as it happens.
        let value = round.to_string();
        world.commit(&value);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..2_000))).await;
        let fate =
            [Fate::Killed, Fate::Frozen, Fate::CutOff][if round <= 3 { round - 1 } else { fastrand::usize(..3) }];
        match fate {
            Fate::Killed => agents[holder].kill9(),
            Fate::Frozen => agents[holder].freeze(),
            Fate::CutOff => world.nodes[holder].proxy.down(),
        }
        let next = world.held(Some(holder)).await;
        eprintln!("round {round}: {} was {fate:?}, {} goes on", world.nodes[holder].name, world.nodes[next].name);
        world.all_have(&value).await;
        match fate {
            Fate::Killed => agents[holder].restart().unwrap(),
            Fate::Frozen => agents[holder].thaw(),
            Fate::CutOff => world.nodes[holder].proxy.up(),
        }
        // Whoever comes back changes nothing.
        change_by_hand(&world.maps, "a0", "by hand").await;
        world.all_have(&value).await;
        agents.iter_mut().for_each(|agent| agent.check().unwrap());
    }
    let told = writes(&world._control_plane.audit().unwrap(), &world.nodes);
    eprintln!(
        "{} writes, {} of them late (by {:?} at most), {} after another had the Lease; takeovers after {:?}",
        told.writes, told.late, told.latest, told.overtaken, told.takeovers
    );
    assert!(told.writes > OBJECTS && told.takeovers.len() >= 3, "{told:?}");
    assert!(told.latest <= REQUEST, "{told:?}");
    if rounds.is_some() {
        // A machine that does nothing else.
        assert!(told.takeovers.iter().all(|took| *took <= LASTS + SignedDuration::from_secs(2)), "{told:?}");
    }
}

#[tokio::test]
async fn a_next_holder_whose_cache_is_older_enforces_nothing_older() {
    let world = World::new("older-cache", 2).await;
    let first = world.commit("1");
    let mut agents: Vec<_> = world.nodes.iter().map(Node::start).collect();
    world.all_have("1").await;
    let holder = world.held(None).await;
    let other = 1 - holder;
    // It has the first commit, and is away while the second comes.
    status_becomes(&agents[other], "it has the first commit, too", |status| {
        status["sources"][0]["ready"]["status"] == "True" && status["standsBy"].is_string()
    })
    .await;
    agents[other].stop().await.unwrap();
    let second = world.commit("2");
    applied(&agents[holder], &second).await;
    let floors: Api<ConfigMap> = Api::namespaced(world.leases.clone().into_client(), &world.fleet.home);
    eventually("the floor is in the cluster", LONG, || async {
        let map = floors.get("wickie-floors").await?;
        ensure!(map.data.iter().flatten().any(|(_, line)| line.contains(&second)), "{:?}", map.data);
        Ok(())
    })
    .await;
    world.fleet.git.down();
    agents[holder].kill9();
    agents[other].restart().unwrap();
    assert_eq!(world.held(Some(holder)).await, other);
    status_becomes(&agents[other], "it says what it waits for", |status| {
        let ready = &status["sources"][0]["ready"];
        let says = ready["message"].as_str().unwrap_or_default();
        ready["status"] == "False" && says.contains(&first) && says.contains(&second)
    })
    .await;
    change_by_hand(&world.maps, "a0", "by hand").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let found = value_of(&world.maps, "a0").await.unwrap();
    assert_eq!(found.as_deref(), Some("by hand"), "neither back nor forward");
    assert_eq!(value_of(&world.maps, "a1").await.unwrap().as_deref(), Some("2"));
    world.fleet.git.heal();
    world.all_have("2").await;
    applied(&agents[other], &second).await;
}

#[tokio::test]
async fn a_restart_takes_its_own_lease_back_and_who_stands_by_says_so() {
    let world = World::new("own-lease", 2).await;
    world.commit("1");
    let mut agents: Vec<_> = world.nodes.iter().map(Node::start).collect();
    world.all_have("1").await;
    let holder = world.held(None).await;
    let other = 1 - holder;
    let name = &world.nodes[holder].name;
    let status = status_becomes(&agents[other], "it stands by", |status| {
        status["standsBy"].as_str().is_some_and(|why| why.contains(name.as_str()))
    })
    .await;
    assert_eq!(status["kustomizations"].as_array().map(Vec::len), Some(0), "{status:#}");
    let refused = agents[other].cli(&["reconcile", "apps"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("stands by") && refused.stderr.contains(name.as_str()), "{refused:?}");
    assert_eq!(agents[other].cli(&["reconcile", "source/fleet"]).unwrap().code, 0);

    let (_, transitions) = world.holder().await.unwrap();
    agents[holder].kill9();
    agents[holder].restart().unwrap();
    let second = world.commit("2");
    applied(&agents[holder], &second).await;
    assert_eq!(world.holder().await.unwrap(), (name.clone(), transitions), "nobody else had it meanwhile");

    // Another agent that was given the same name: both say so.
    let mut twin = world.nodes[other].options.clone();
    agents[other].kill9();
    twin.env.push(("NODE_NAME".to_owned(), name.clone()));
    let twin = Agent::spawn(twin).unwrap();
    eventually("it is noticed that two bear one name", LONG, || async {
        let logs = [twin.log(), agents[holder].log()];
        ensure!(logs.iter().any(|log| log.contains("in the name of this node")), "{logs:?}");
        Ok(())
    })
    .await;
    // And one of them stands by, as it would for any other.
    eventually("one of the two stands by", LONG, || async {
        let by = [&twin, &agents[holder]].map(|agent| anyhow::Ok(crate::node::status(agent)?["standsBy"].is_string()));
        let by: Vec<bool> = by.into_iter().collect::<anyhow::Result<_>>()?;
        ensure!(by.iter().filter(|by| **by).count() == 1, "{by:?}");
        Ok(())
    })
    .await;
}
