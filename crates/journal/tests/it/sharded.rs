//! The registry in nodes: whatever happens, what is loaded is what was acknowledged, perhaps with
//! the beginning of what was on its way; and who was deposed writes nothing.

use crate::tree::{Client, Dead, Luck, Tree};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};
use tepui_journal::registry::{
    Step,
    sharded::{Damage, Fault, Limits, Node, Sharded, inspect},
};

const ROOT: &str = "/mesos/tepui/registry";

type Entries = BTreeMap<String, Vec<u8>>;
type Shared = Rc<RefCell<Tree>>;
/// What happens to the next writes of a client.
type Fate = Rc<RefCell<VecDeque<Luck>>>;
type Opened = Result<(Sharded<Client>, Entries), Fault<Dead>>;

fn small() -> Limits {
    Limits {
        shard_bytes: 200,
        shard_bytes_max: 400,
        value_bytes_max: 100,
        piece_bytes: 64,
        transaction_bytes: 1500,
        reads: 3,
    }
}

/// A leader's membership znode and its session.
fn elect(tree: &Shared, number: usize) -> (String, Client) {
    let member = format!("/member{number}");
    let node = Node {
        data: Vec::new(),
        version: 0,
    };
    tree.borrow_mut().nodes.insert(member.clone(), node);
    (member, Client::new(tree))
}

fn open(tree: &Shared, number: usize, limits: Limits) -> Opened {
    let (member, client) = elect(tree, number);
    take_over(client, &member, number, limits)
}

fn take_over(client: Client, member: &str, number: usize, limits: Limits) -> Opened {
    let writer = format!("writer {number}");
    let cluster = format!("cluster {number}");
    Sharded::take_over(client, ROOT, Some(member), &writer, &cluster, limits)
}

fn put(key: &str, bytes: usize) -> Step {
    Step::Put(key.to_owned(), vec![b'x'; bytes])
}

#[test]
fn what_was_written_is_read() {
    let tree = Shared::default();
    let (mut registry, entries) = open(&tree, 0, Limits::default()).expect("a registry");
    assert!(entries.is_empty());
    let groups: Vec<_> = (0..3000)
        .map(|n| vec![put(&format!("follower/{n}"), 600)])
        .collect();
    registry.apply(&groups).expect("applied");
    registry
        .apply(&[vec![put("schedule", 3 << 20)]])
        .expect("applied");
    assert!(tree.borrow().biggest_write < 700 << 10);
    let (again, entries) = open(&tree, 1, Limits::default()).expect("a registry");
    assert_eq!(again.cluster_id(), "cluster 0");
    assert_eq!(entries.len(), 3001);
    assert_eq!(entries["schedule"].len(), 3 << 20);
    let contents = inspect(&mut Client::new(&tree), ROOT)
        .expect("readable")
        .expect("a registry");
    assert_eq!(contents.entries, entries);
    assert_eq!((contents.epoch, contents.damage.len()), (2, 0));
    assert!(contents.shard_bytes_max < 17 << 10);
    assert!(contents.shards < 130, "{} shards", contents.shards);
}

#[test]
fn a_change_costs_one_small_write() {
    let tree = Shared::default();
    let (mut registry, _) = open(&tree, 0, Limits::default()).expect("a registry");
    let groups: Vec<_> = (0..3000)
        .map(|n| vec![put(&format!("follower/{n}"), 600)])
        .collect();
    registry.apply(&groups).expect("applied");
    let writes = tree.borrow().writes;
    tree.borrow_mut().biggest_write = 0;
    let to_unreachable = vec![
        Step::Remove("follower/1500".to_owned()),
        put("unreachable/1500", 50),
    ];
    registry.apply(&[to_unreachable]).expect("applied");
    assert_eq!(tree.borrow().writes, writes + 1);
    assert!(tree.borrow().biggest_write < 40 << 10);
}

#[test]
fn emptied_shards_and_old_pieces_go() {
    let tree = Shared::default();
    let (mut registry, _) = open(&tree, 0, small()).expect("a registry");
    let keys: Vec<_> = (0..50).map(|n| format!("k/{n}")).collect();
    let puts: Vec<_> = keys.iter().map(|key| vec![put(key, 150)]).collect();
    registry.apply(&puts).expect("applied");
    let removals = keys.iter().map(|key| vec![Step::Remove(key.clone())]);
    registry
        .apply(&removals.collect::<Vec<_>>())
        .expect("applied");
    let contents = inspect(&mut Client::new(&tree), ROOT)
        .expect("readable")
        .expect("a registry");
    assert_eq!(contents.damage, []);
    assert_eq!((contents.shards, contents.pieces), (0, 0));
    assert_eq!(contents.leftovers, 0);
}

#[test]
fn the_one_before_is_shut_out() {
    let tree = Shared::default();
    let (mut first, _) = open(&tree, 0, small()).expect("a registry");
    first.apply(&[vec![put("a", 1)]]).expect("applied");
    // Its membership is still there: the head alone fences.
    let (mut second, _) = open(&tree, 1, small()).expect("a registry");
    for bytes in [1, 150] {
        let mut stale = first;
        let refused = stale.apply(&[vec![put("b", bytes)]]);
        assert_eq!(refused, Err(Fault::Deposed));
        assert_eq!(stale.apply(&[]), Err(Fault::Broken));
        second.apply(&[vec![put("c", bytes)]]).expect("applied");
        (first, _) = open(&tree, 2 + bytes, small()).expect("a registry");
        std::mem::swap(&mut first, &mut second);
    }
    let (_, entries) = open(&tree, 9, small()).expect("a registry");
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn versions_go_round() {
    for first in [i32::MAX - 3, -6] {
        let tree = Shared::default();
        open(&tree, 0, small()).expect("a registry");
        let head = format!("{ROOT}/head");
        if let Some(node) = tree.borrow_mut().nodes.get_mut(&head) {
            node.version = first;
        }
        let mut last = None;
        for round in 1..12 {
            let (mut leader, entries) = open(&tree, round, small()).expect("a registry");
            assert_eq!(entries.len(), round - 1);
            if let Some(mut deposed) = last.replace(leader) {
                let refused: Result<(), _> = Sharded::apply(&mut deposed, &[vec![put("b", 1)]]);
                assert_eq!(refused, Err(Fault::Deposed));
            }
            leader = last.take().expect("it leads");
            let key = format!("k/{round}");
            leader.apply(&[vec![put(&key, 1)]]).expect("applied");
            assert_ne!(tree.borrow().nodes[&head].version, -1);
            last = Some(leader);
        }
    }
}

#[test]
fn whoever_lost_its_membership_writes_nothing() {
    let tree = Shared::default();
    let (mut registry, _) = open(&tree, 0, small()).expect("a registry");
    tree.borrow_mut().nodes.remove("/member0");
    let before = tree.borrow().nodes.clone();
    for bytes in [1, 150] {
        let refused = registry.apply(&[vec![put("a", bytes)]]);
        assert!(matches!(refused, Err(Fault::Deposed | Fault::Broken)));
    }
    assert!(tree.borrow().nodes == before);
    // Nor does it take over.
    let refused = take_over(Client::new(&tree), "/member0", 1, small());
    assert_eq!(refused.err(), Some(Fault::Deposed));
}

#[test]
fn damage_is_found() {
    let tree = Shared::default();
    let (mut registry, _) = open(&tree, 0, small()).expect("a registry");
    let groups: Vec<_> = (0..9).map(|n| vec![put(&format!("k/{n}"), 90)]).collect();
    registry.apply(&groups).expect("applied");
    registry.apply(&[vec![put("long", 150)]]).expect("applied");
    let sound = tree.borrow().nodes.clone();
    let ours = sound.keys().filter(|path| path.starts_with(ROOT));
    let leaves: Vec<_> = ours.filter(|path| sound[*path].data.len() > 4).collect();
    assert!(leaves.len() > 6);
    let expect_damage = |what: &str| {
        let found = open(&tree, 1, small()).err();
        assert!(
            matches!(found, Some(Fault::Damaged(_))),
            "{what}: {found:?}"
        );
        let contents = inspect(&mut Client::new(&tree), ROOT).expect("readable");
        assert_ne!(contents.expect("a registry").damage, [], "{what}");
    };
    for path in &leaves {
        // Gone.
        tree.borrow_mut().nodes = sound.clone();
        tree.borrow_mut().nodes.remove(*path);
        expect_damage(path);
        // Every bit counts.
        for byte in 0..sound[*path].data.len() {
            tree.borrow_mut().nodes = sound.clone();
            if let Some(node) = tree.borrow_mut().nodes.get_mut(*path) {
                node.data[byte] ^= 1 << (byte % 8);
            }
            expect_damage(path);
        }
        // Torn.
        tree.borrow_mut().nodes = sound.clone();
        if let Some(node) = tree.borrow_mut().nodes.get_mut(*path) {
            node.data.truncate(node.data.len() / 2);
        }
        expect_damage(path);
    }
    // Of another time.
    tree.borrow_mut().nodes = sound.clone();
    let (mut registry, _) = open(&tree, 2, small()).expect("a registry");
    let groups: Vec<_> = (0..9).map(|n| vec![put(&format!("k/{n}"), 89)]).collect();
    registry.apply(&groups).expect("applied");
    for path in leaves.iter().filter(|path| path.contains("/shards/")) {
        let newer = tree.borrow().nodes.clone();
        let old = sound[*path].clone();
        tree.borrow_mut().nodes.insert((*path).clone(), old);
        expect_damage(path);
        tree.borrow_mut().nodes = newer;
    }
}

#[test]
fn a_later_format_is_refused() {
    let tree = Shared::default();
    open(&tree, 0, small()).expect("a registry");
    let path = format!("{ROOT}/head");
    let mut nodes = tree.borrow().nodes.clone();
    let data = &mut nodes.get_mut(&path).expect("a head").data;
    // The first field, and the checksum of all before it.
    assert_eq!(data[..2], [0x08, 1]);
    data[1] = 9;
    let end = data.len() - 4;
    let sum = crc32c::crc32c(&data[..end]);
    data[end..].copy_from_slice(&sum.to_le_bytes());
    tree.borrow_mut().nodes = nodes;
    let refused = open(&tree, 1, small()).err();
    assert_eq!(refused, Some(Fault::TooNew { found: 9 }));
    let refused = inspect(&mut Client::new(&tree), ROOT).err();
    assert_eq!(refused, Some(Fault::TooNew { found: 9 }));
}

#[test]
fn shards_without_a_head_are_not_taken_for_nothing() {
    let tree = Shared::default();
    let (mut registry, _) = open(&tree, 0, small()).expect("a registry");
    registry.apply(&[vec![put("a", 1)]]).expect("applied");
    let head = format!("{ROOT}/head");
    tree.borrow_mut().nodes.remove(&head);
    let found = open(&tree, 1, small()).err();
    assert_eq!(found, Some(Fault::Damaged(Damage::NoHead { path: head })));
}

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    /// The one who leads writes.
    Write(Vec<Vec<Step>>, Vec<Luck>),
    /// One who led before writes, and is refused.
    StaleWrite(usize, Vec<Vec<Step>>),
    /// Somebody else takes over; the membership of the one before goes, or not yet.
    TakeOver { withdraw: bool, luck: Vec<Luck> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = (0..40_u8).prop_map(|n| format!("k/{n}"));
    let value = (any::<u8>(), 0..260_usize).prop_map(|(byte, bytes)| vec![byte; bytes]);
    let step = prop_oneof![
        2 => (key.clone(), value).prop_map(|(key, value)| Step::Put(key, value)),
        1 => key.prop_map(Step::Remove),
    ];
    vec(step, 1..4)
}

fn luck() -> impl Strategy<Value = Vec<Luck>> {
    let all = vec![
        Luck::Carried,
        Luck::Carried,
        Luck::Carried,
        Luck::LostBefore,
        Luck::LostAfter,
        Luck::LostUntilLater,
        Luck::DiesBefore,
        Luck::DiesAfter,
    ];
    vec(select(all), 0..6)
}

fn event() -> impl Strategy<Value = Event> {
    let groups = || vec(steps(), 0..12);
    prop_oneof![
        4 => (groups(), luck()).prop_map(|(groups, luck)| Event::Write(groups, luck)),
        1 => (any::<usize>(), vec(steps(), 1..3)).prop_map(|(n, groups)| Event::StaleWrite(n, groups)),
        2 => (any::<bool>(), luck()).prop_map(|(withdraw, luck)| Event::TakeOver { withdraw, luck }),
    ]
}

fn apply(entries: &mut Entries, group: &[Step]) {
    for step in group {
        match step {
            Step::Put(key, value) => entries.insert(key.clone(), value.clone()),
            Step::Remove(key) => entries.remove(key),
        };
    }
}

/// What happened, and what may be in the registry because of it.
struct History {
    tree: Shared,
    leader: Option<(Sharded<Client>, Fate)>,
    deposed: Vec<Sharded<Client>>,
    /// What was acknowledged, and after it what was on its way, group by group.
    possible: Vec<Entries>,
    leaders: usize,
    cluster: Option<String>,
}

impl History {
    fn new() -> Self {
        Self {
            tree: Shared::default(),
            leader: None,
            deposed: Vec::new(),
            possible: vec![Entries::default()],
            leaders: 0,
            cluster: None,
        }
    }

    fn take_over(&mut self, withdraw: bool, luck: Vec<Luck>) {
        if withdraw {
            let before = format!("/member{}", self.leaders);
            self.tree.borrow_mut().nodes.remove(&before);
        }
        self.deposed
            .extend(self.leader.take().map(|(leader, _)| leader));
        self.leaders += 1;
        let (member, _) = elect(&self.tree, self.leaders);
        let luck = Rc::new(RefCell::new(VecDeque::from(luck)));
        let client = Client::with_luck(&self.tree, luck.clone());
        match take_over(client, &member, self.leaders, small()) {
            Ok((registry, entries)) => {
                assert!(
                    self.possible.contains(&entries),
                    "neither what was acknowledged nor what was on its way"
                );
                self.possible = vec![entries];
                let cluster = registry.cluster_id().to_owned();
                assert_eq!(*self.cluster.get_or_insert(cluster.clone()), cluster);
                luck.borrow_mut().clear();
                self.leader = Some((registry, luck));
            }
            // It died. Whoever wrote before may be shut out or not.
            Err(Fault::Nodes(Dead)) => {
                // A first head may be there now, and with it a cluster.
            }
            Err(fault) => panic!("{fault:?}"),
        }
    }

    fn write(&mut self, groups: &[Vec<Step>], luck: Vec<Luck>) {
        let Some((registry, luck_now)) = &mut self.leader else {
            return;
        };
        *luck_now.borrow_mut() = luck.into();
        let result = registry.apply(groups);
        luck_now.borrow_mut().clear();
        let mut last = self.possible[0].clone();
        let mut prefixes = vec![last.clone()];
        for group in groups {
            apply(&mut last, group);
            prefixes.push(last.clone());
        }
        match result {
            Ok(()) => self.possible = vec![last],
            Err(Fault::Nodes(Dead)) => {
                self.possible = prefixes;
                self.leader = None;
            }
            Err(fault) => panic!("{fault:?}"),
        }
    }

    fn stale_write(&mut self, number: usize, groups: &[Vec<Step>]) {
        if self.deposed.is_empty() || self.leader.is_none() {
            return;
        }
        let index = number % self.deposed.len();
        let refused = self.deposed[index].apply(groups);
        assert!(
            matches!(
                refused,
                Err(Fault::Deposed | Fault::Broken | Fault::Nodes(Dead))
            ),
            "{refused:?}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_loaded_is_what_was_acknowledged(events in vec(event(), 1..25)) {
        let mut history = History::new();
        history.take_over(false, Vec::new());
        for event in events {
            match event {
                Event::Write(groups, luck) => history.write(&groups, luck),
                Event::StaleWrite(number, groups) => history.stale_write(number, &groups),
                Event::TakeOver { withdraw, luck } => history.take_over(withdraw, luck),
            }
        }
        history.take_over(true, Vec::new());
        prop_assert!(history.tree.borrow().biggest_write < 6000);
        let contents = inspect(&mut Client::new(&history.tree), ROOT)
            .expect("readable")
            .expect("a registry");
        prop_assert_eq!(contents.damage, []);
        prop_assert_eq!(&contents.entries, &history.possible[0]);
    }
}
