//! What an election means for one who takes part or watches.

use std::sync::Arc;
use tepui_protocol::v1;

/// Where we stand.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Standing {
    /// There is no session, or nothing is known yet.
    #[default]
    Unknown,
    /// ZooKeeper does not let us do what we must, and why. It is tried again, but somebody should know.
    Refused(Arc<str>),
    /// Somebody else leads, or nobody.
    Following(Option<Arc<v1::MasterInfo>>),
    /// We lead: our znode is the lowest, and it was there a moment ago.
    Leading(Tenure),
}

impl Standing {
    /// Our tenure, if we lead.
    pub fn tenure(&self) -> Option<&Tenure> {
        match self {
            Self::Leading(tenure) => Some(tenure),
            _ => None,
        }
    }
}

/// One time of leading. Two are never equal: what ends one is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Full path of our znode. As long as it exists nobody else leads: check for it in every write.
    pub member: Arc<str>,
    /// Its number; a later leader's is higher.
    pub sequence: u32,
    /// The session that owns it.
    pub session: i64,
    /// Which of our attempts it was: numbers come again when somebody deletes the election's znode.
    pub attempt: u64,
}
