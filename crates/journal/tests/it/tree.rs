//! A tree of nodes as ZooKeeper keeps it, whose clients lose replies and connections.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};
use tepui_journal::registry::sharded::{Node, Nodes, Operation, WriteError};

/// What happens to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luck {
    Carried,
    /// The connection breaks before it arrives.
    LostBefore,
    /// The connection breaks before the reply arrives.
    LostAfter,
    /// The connection breaks, and it is carried out when somebody writes next.
    LostUntilLater,
    /// The writer's process ends before it arrives.
    DiesBefore,
    /// The writer's process ends once it is carried out.
    DiesAfter,
}

#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) nodes: BTreeMap<String, Node>,
    late: Vec<Vec<Operation>>,
    pub(crate) biggest_write: usize,
    pub(crate) writes: usize,
}

impl Tree {
    fn arrive(&mut self) {
        for operations in std::mem::take(&mut self.late) {
            // Whoever sent it hears nothing.
            let _ = self.carry_out(&operations);
        }
    }

    fn carry_out(&mut self, operations: &[Operation]) -> Result<(), usize> {
        let mut after = self.nodes.clone();
        for (index, operation) in operations.iter().enumerate() {
            carry_out(&mut after, operation).ok_or(index)?;
        }
        self.nodes = after;
        Ok(())
    }
}

fn carry_out(nodes: &mut BTreeMap<String, Node>, operation: &Operation) -> Option<()> {
    let fits = |node: &Node, version: &Option<i32>| {
        version.is_none_or(|version| version == -1 || version == node.version)
    };
    match operation {
        Operation::Check { path, version } => {
            fits(nodes.get(path)?, version).then_some(())?;
        }
        Operation::Create { path, data } => {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            (parent.is_empty() || nodes.contains_key(parent)).then_some(())?;
            let data = data.clone();
            let taken = nodes.insert(path.clone(), Node { data, version: 0 });
            taken.is_none().then_some(())?;
        }
        Operation::Set {
            path,
            data,
            version,
        } => {
            let node = nodes.get_mut(path)?;
            fits(node, version).then_some(())?;
            node.data = data.clone();
            node.version = node.version.wrapping_add(1);
        }
        Operation::Delete { path, version } => {
            fits(nodes.get(path)?, version).then_some(())?;
            nodes.remove(path);
        }
    }
    Some(())
}

/// One session.
pub(crate) struct Client {
    pub(crate) tree: Rc<RefCell<Tree>>,
    pub(crate) luck: Rc<RefCell<VecDeque<Luck>>>,
    dead: bool,
}

impl Client {
    pub(crate) fn new(tree: &Rc<RefCell<Tree>>) -> Self {
        Self::with_luck(tree, Default::default())
    }

    pub(crate) fn with_luck(tree: &Rc<RefCell<Tree>>, luck: Rc<RefCell<VecDeque<Luck>>>) -> Self {
        Self {
            tree: tree.clone(),
            luck,
            dead: false,
        }
    }

    fn alive(&self) -> Result<(), Dead> {
        if self.dead { Err(Dead) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dead;

impl Nodes for Client {
    type Error = Dead;

    fn sync(&mut self, _path: &str) -> Result<(), Dead> {
        self.alive()
    }

    fn read(&mut self, paths: &[String]) -> Result<Vec<Option<Node>>, Dead> {
        self.alive()?;
        let tree = self.tree.borrow();
        Ok(paths
            .iter()
            .map(|path| tree.nodes.get(path).cloned())
            .collect())
    }

    fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, Dead> {
        self.alive()?;
        let tree = self.tree.borrow();
        if !tree.nodes.contains_key(path) {
            return Ok(None);
        }
        let prefix = format!("{path}/");
        let names = tree
            .nodes
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix));
        Ok(Some(names.map(str::to_owned).collect()))
    }

    fn write(&mut self, operations: &[Operation]) -> Result<(), WriteError<Dead>> {
        self.alive().map_err(WriteError::Failed)?;
        let mut tree = self.tree.borrow_mut();
        tree.arrive();
        tree.writes += 1;
        let bytes = operations.iter().map(Operation::bytes).sum();
        tree.biggest_write = tree.biggest_write.max(bytes);
        let luck = self.luck.borrow_mut().pop_front().unwrap_or(Luck::Carried);
        let mut carry_out = || {
            let done = tree.carry_out(operations);
            done.map_err(|index| WriteError::Refused { index })
        };
        match luck {
            Luck::Carried => carry_out(),
            Luck::LostBefore => Err(WriteError::Lost),
            Luck::LostAfter => {
                // Refused or not: nobody hears of it.
                let _ = carry_out();
                Err(WriteError::Lost)
            }
            Luck::LostUntilLater => {
                tree.late.push(operations.to_vec());
                Err(WriteError::Lost)
            }
            Luck::DiesBefore => {
                self.dead = true;
                Err(WriteError::Failed(Dead))
            }
            Luck::DiesAfter => {
                let _ = carry_out();
                self.dead = true;
                Err(WriteError::Failed(Dead))
            }
        }
    }
}
