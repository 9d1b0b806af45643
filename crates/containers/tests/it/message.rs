//! Frames survive any cutting, and bytes from nowhere never panic.

use proptest::prelude::*;
use tepui_containers::{
    message::{FRAME_BYTES_MAX, Frames, Malformed, Report, Request, SignalScope},
    plan::{Identity, Keep, OnSupervisorDeath, ProcessPlan, RLimit, Stdio, Stream},
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchStep};

fn container() -> impl Strategy<Value = ContainerId> {
    prop::collection::vec("[a-z0-9-]{1,12}", 1..4).prop_map(|names| {
        let (top, nested) = names.split_first().expect("at least one");
        nested
            .iter()
            .fold(ContainerId::top(top.as_str()), |id, name| {
                id.nested(name.as_str())
            })
    })
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![
        Just(Stream::Null),
        ".{0,20}".prop_map(|p| Stream::Append(p.into()))
    ]
}

prop_compose! {
    fn process_plan()(
        container in container(),
        texts in prop::array::uniform3(prop::collection::vec(".{0,20}", 0..5)),
        streams in prop::array::uniform3(stream()),
        identity in prop::option::of((any::<u32>(), any::<u32>(), prop::collection::vec(any::<u32>(), 0..4))),
        limits in prop::collection::vec((any::<u8>(), any::<u64>(), any::<u64>()), 0..3),
        umask in any::<u32>(),
        keep in prop::option::of([".{0,9}", ".{0,9}", ".{0,9}"]),
    ) -> ProcessPlan {
        let [candidates, argv, environment] = texts;
        let [input, output, error] = streams;
        ProcessPlan {
            container,
            candidates: candidates.into_iter().map(Into::into).collect(),
            argv,
            environment,
            directory: "/sandbox".into(),
            stdio: Stdio { input, output, error },
            identity: identity.map(|(uid, gid, groups)| Identity { uid, gid, groups }),
            rlimits: limits.into_iter().map(|(resource, soft, hard)| RLimit { resource, soft, hard }).collect(),
            umask,
            on_supervisor_death: match keep {
                Some([name, directory, lock]) => OnSupervisorDeath::KeepRunning(Keep {
                    name,
                    directory: directory.into(),
                    lock: lock.into(),
                }),
                None => OnSupervisorDeath::Kill,
            },
        }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let scope = prop::sample::select(vec![
        SignalScope::Process,
        SignalScope::Group,
        SignalScope::Tree,
    ]);
    prop_oneof![
        process_plan().prop_map(|plan| Request::Launch(Box::new(plan))),
        (container(), any::<i32>(), scope).prop_map(|(container, signal, scope)| Request::Signal {
            container,
            signal,
            scope
        }),
        container().prop_map(|container| Request::Destroy { container }),
        (container(), ".{0,20}").prop_map(|(container, directory)| Request::Adopt {
            container,
            directory: directory.into(),
        }),
        Just(Request::End),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let step = prop::sample::select(vec![
        LaunchStep::Sandbox,
        LaunchStep::Fetch,
        LaunchStep::Start,
    ]);
    let status = prop_oneof![
        any::<i32>().prop_map(ExitStatus::Code),
        any::<i32>().prop_map(ExitStatus::Signal)
    ];
    prop_oneof![
        (container(), any::<u32>(), any::<u32>()).prop_map(|(container, pid, init)| {
            Report::Launched {
                container,
                pid,
                init,
            }
        }),
        (container(), step, ".*").prop_map(|(container, step, message)| Report::Failed {
            container,
            step,
            message
        }),
        (container(), prop::option::of(status))
            .prop_map(|(container, status)| Report::Exited { container, status }),
    ]
}

/// Takes the stream in pieces of `size`.
fn cut<T>(bytes: &[u8], size: usize, decode: impl Fn(&[u8]) -> Result<T, Malformed>) -> Vec<T> {
    let (mut frames, mut taken) = (Frames::default(), Vec::new());
    for piece in bytes.chunks(size) {
        frames.push(piece);
        while let Some(frame) = frames.next().expect("well-formed") {
            taken.push(decode(frame).expect("well-formed"));
        }
    }
    taken
}

proptest! {
    #[test]
    fn requests_come_out_as_they_went_in(requests in prop::collection::vec(request(), 1..4), size in 1..64_usize) {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| request.encode(&mut bytes));
        prop_assert_eq!(cut(&bytes, size, Request::decode), requests);
    }

    #[test]
    fn reports_come_out_as_they_went_in(reports in prop::collection::vec(report(), 1..4), size in 1..64_usize) {
        let mut bytes = Vec::new();
        reports.iter().for_each(|report| report.encode(&mut bytes));
        prop_assert_eq!(cut(&bytes, size, Report::decode), reports);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::decode(&bytes);
        let _ = Report::decode(&bytes);
    }

    #[test]
    fn damaged_requests_never_panic(request in request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut frames = Frames::default();
        frames.push(&bytes);
        while let Ok(Some(frame)) = frames.next() {
            let _ = Request::decode(frame);
        }
    }
}

#[test]
fn endless_frames_are_refused() {
    let mut frames = Frames::default();
    frames.push(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
    assert_eq!(frames.next(), Err(Malformed));
}
