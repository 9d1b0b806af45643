//! Fields of the frames: one writer and one reader that mirror each other.

use super::Malformed;
use crate::plan::{Identity, Keep, OnSupervisorDeath, ProcessPlan, RLimit, Stdio, Stream};
use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};
use tepui_model::container::ContainerId;

/// Deepest nesting taken from a frame: a length nobody checks must not exhaust the stack.
const NESTING_MAX: u32 = 32;

pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        Self { out, start }
    }
    pub(super) fn end(self) {
        let length = (self.out.len() - self.start - 4) as u32;
        self.out[self.start..self.start + 4].copy_from_slice(&length.to_le_bytes());
    }
    pub(super) fn byte(&mut self, value: u8) {
        self.out.push(value);
    }
    pub(super) fn number(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }
    fn long(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u32);
        self.out.extend_from_slice(value);
    }
    pub(super) fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }
    fn list<T>(&mut self, values: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.number(values.len() as u32);
        values.iter().for_each(|value| one(self, value));
    }
    /// Innermost first.
    pub(super) fn container(&mut self, id: &ContainerId) {
        let chain: Vec<_> = std::iter::successors(Some(id), |id| id.parent.as_deref()).collect();
        self.list(&chain, |out, id| out.bytes(id.value.as_bytes()));
    }
    fn stream(&mut self, stream: &Stream) {
        match stream {
            Stream::Null => self.byte(0),
            Stream::Append(path) => {
                self.byte(1);
                self.path(path);
            }
        }
    }
    pub(super) fn plan(&mut self, plan: &ProcessPlan) {
        // Every field by name: a new one must not be forgotten.
        let ProcessPlan {
            container,
            candidates,
            argv,
            environment,
            directory,
            stdio:
                Stdio {
                    input,
                    output,
                    error,
                },
            identity,
            rlimits,
            umask,
            on_supervisor_death,
        } = plan;
        self.container(container);
        self.list(candidates, |out, path| out.path(path));
        self.list(argv, |out, text| out.bytes(text.as_bytes()));
        self.list(environment, |out, text| out.bytes(text.as_bytes()));
        self.path(directory);
        [input, output, error]
            .into_iter()
            .for_each(|stream| self.stream(stream));
        self.list(identity.as_slice(), |out, Identity { uid, gid, groups }| {
            out.number(*uid);
            out.number(*gid);
            out.list(groups, |out, group| out.number(*group));
        });
        self.list(
            rlimits,
            |out,
             RLimit {
                 resource,
                 soft,
                 hard,
             }| {
                out.byte(*resource);
                out.long(*soft);
                out.long(*hard);
            },
        );
        self.number(*umask);
        match on_supervisor_death {
            OnSupervisorDeath::Kill => self.byte(0),
            OnSupervisorDeath::KeepRunning(Keep {
                name,
                directory,
                lock,
            }) => {
                self.byte(1);
                self.bytes(name.as_bytes());
                self.path(directory);
                self.path(lock);
            }
        }
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*chunk)
    }
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.chunk()?))
    }
    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }
    fn long(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed)
    }
    pub(super) fn path(&mut self) -> Result<PathBuf, Malformed> {
        Ok(OsString::from_vec(self.bytes()?.to_vec()).into())
    }
    /// Every element takes at least a byte, so a count beyond what is left is a lie.
    fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.number()? as usize;
        if count > self.0.len() {
            return Err(Malformed);
        }
        (0..count).map(|_| one(self)).collect()
    }
    pub(super) fn container(&mut self) -> Result<ContainerId, Malformed> {
        let chain = self.list(Self::text)?;
        if chain.len() > NESTING_MAX as usize {
            return Err(Malformed);
        }
        let mut outermost_first = chain.into_iter().rev();
        let top = ContainerId::top(outermost_first.next().ok_or(Malformed)?);
        Ok(outermost_first.fold(top, |parent, value| parent.nested(value)))
    }
    fn stream(&mut self) -> Result<Stream, Malformed> {
        match self.byte()? {
            0 => Ok(Stream::Null),
            1 => Ok(Stream::Append(self.path()?)),
            _ => Err(Malformed),
        }
    }
    pub(super) fn plan(&mut self) -> Result<ProcessPlan, Malformed> {
        Ok(ProcessPlan {
            container: self.container()?,
            candidates: self.list(Self::path)?,
            argv: self.list(Self::text)?,
            environment: self.list(Self::text)?,
            directory: self.path()?,
            stdio: Stdio {
                input: self.stream()?,
                output: self.stream()?,
                error: self.stream()?,
            },
            identity: self
                .list(|r| {
                    Ok(Identity {
                        uid: r.number()?,
                        gid: r.number()?,
                        groups: r.list(Self::number)?,
                    })
                })?
                .pop(),
            rlimits: self.list(|r| {
                Ok(RLimit {
                    resource: r.byte()?,
                    soft: r.long()?,
                    hard: r.long()?,
                })
            })?,
            umask: self.number()?,
            on_supervisor_death: match self.byte()? {
                0 => OnSupervisorDeath::Kill,
                1 => OnSupervisorDeath::KeepRunning(Keep {
                    name: self.text()?,
                    directory: self.path()?,
                    lock: self.path()?,
                }),
                _ => return Err(Malformed),
            },
        })
    }
}
