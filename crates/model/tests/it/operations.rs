//! What operations make of resources.

use proptest::prelude::*;
use tepui_model::resources::{
    Format, Resources,
    operations::{OperationError, conversions, provider_of},
    parse,
};
use tepui_protocol::v1::{
    self, ResourceProviderId,
    offer::{
        Operation,
        operation::{Create, Destroy, GrowVolume, Reserve, ShrinkVolume, Type, Unreserve},
    },
    resource::{self, AllocationInfo, DiskInfo, ReservationInfo, reservation_info},
};

fn total() -> Resources {
    parse("cpus:4;mem:1024;disk:100;ports:[1-10]", "*").unwrap()
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.into(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

fn reserved(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        reservations: vec![ReservationInfo {
            role: Some("prod".into()),
            principal: Some("ops".into()),
            r#type: Some(reservation_info::Type::Dynamic.into()),
            ..Default::default()
        }],
        ..scalar(name, value)
    }
}

fn volume(id: &str, value: f64) -> v1::Resource {
    v1::Resource {
        disk: Some(Box::new(DiskInfo {
            persistence: Some(resource::disk_info::Persistence {
                id: id.into(),
                principal: Some("ops".into()),
            }),
            volume: Some(v1::Volume {
                container_path: "data".into(),
                mode: v1::volume::Mode::Rw.into(),
                ..Default::default()
            }),
            source: None,
        })),
        ..reserved("disk", value)
    }
}

fn reserve(resources: Vec<v1::Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Reserve.into()),
        reserve: Some(Reserve {
            resources,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn unreserve(resources: Vec<v1::Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Unreserve.into()),
        unreserve: Some(Unreserve { resources }),
        ..Default::default()
    }
}

fn create(volumes: Vec<v1::Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Create.into()),
        create: Some(Create { volumes }),
        ..Default::default()
    }
}

fn destroy(volumes: Vec<v1::Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Destroy.into()),
        destroy: Some(Destroy { volumes }),
        ..Default::default()
    }
}

fn grow(volume: v1::Resource, by: f64) -> Operation {
    Operation {
        r#type: Some(Type::GrowVolume.into()),
        grow_volume: Some(GrowVolume {
            volume,
            addition: reserved("disk", by),
        }),
        ..Default::default()
    }
}

fn shrink(volume: v1::Resource, by: f64) -> Operation {
    Operation {
        r#type: Some(Type::ShrinkVolume.into()),
        shrink_volume: Some(ShrinkVolume {
            volume,
            subtract: v1::value::Scalar { value: by },
        }),
        ..Default::default()
    }
}

fn apply(total: &Resources, operation: &Operation) -> Result<Resources, OperationError> {
    total.apply(&conversions(operation)?)
}

fn after(operations: &[Operation]) -> Resources {
    operations.iter().fold(total(), |total, operation| {
        apply(&total, operation).unwrap()
    })
}

#[test]
fn a_reservation_is_made_and_undone() {
    let made = after(&[reserve(vec![reserved("cpus", 1.0), reserved("disk", 64.0)])]);
    assert_eq!(made.reserved(Some("prod")).cpus().to_f64(), 1.0);
    assert_eq!(made.unreserved().disk().to_f64(), 36.0);
    assert_eq!(made.to_remember().len(), 2);
    let undone = apply(&made, &unreserve(vec![reserved("cpus", 1.0)])).unwrap();
    let undone = apply(&undone, &unreserve(vec![reserved("disk", 64.0)])).unwrap();
    assert_eq!(undone, total());
}

#[test]
fn a_volume_is_made_grows_shrinks_and_goes() {
    let mut now = after(&[
        reserve(vec![reserved("disk", 80.0)]),
        create(vec![volume("v", 64.0)]),
    ]);
    assert_eq!(now.persistent_volumes().disk().to_f64(), 64.0);
    now = apply(&now, &grow(volume("v", 64.0), 16.0)).unwrap();
    assert_eq!(now.persistent_volumes().disk().to_f64(), 80.0);
    now = apply(&now, &shrink(volume("v", 80.0), 50.0)).unwrap();
    assert_eq!(now.persistent_volumes().disk().to_f64(), 30.0);
    now = apply(&now, &destroy(vec![volume("v", 30.0)])).unwrap();
    assert!(now.persistent_volumes().is_empty());
    assert_eq!(now.reserved(Some("prod")).disk().to_f64(), 80.0);
    assert_eq!(now.disk(), total().disk());
}

#[test]
fn what_is_not_there_is_not_taken_and_nothing_changes() {
    for operation in [
        reserve(vec![reserved("cpus", 5.0)]),
        unreserve(vec![reserved("cpus", 1.0)]),
        create(vec![volume("v", 1.0)]),
        destroy(vec![volume("v", 1.0)]),
        grow(volume("v", 1.0), 1.0),
        shrink(volume("v", 2.0), 1.0),
    ] {
        let result = apply(&total(), &operation);
        assert!(
            matches!(result, Err(OperationError::NotContained { .. })),
            "{result:?}"
        );
    }
    let text = apply(&total(), &reserve(vec![reserved("cpus", 5.0)])).unwrap_err();
    assert_eq!(
        text.to_string(),
        "cpus:4; mem:1024; disk:100; ports:[1-10] does not contain cpus:5"
    );
}

#[test]
fn operations_that_make_no_sense_are_told_apart() {
    let error = |operation: Operation| conversions(&operation).unwrap_err();
    assert_eq!(error(reserve(vec![])), OperationError::Empty);
    assert_eq!(error(Operation::default()), OperationError::Unknown);
    let bare = Operation {
        r#type: Some(Type::Reserve.into()),
        ..Default::default()
    };
    assert_eq!(error(bare), OperationError::Unknown);
    let launch = Operation {
        r#type: Some(Type::Launch.into()),
        ..Default::default()
    };
    assert_eq!(error(launch), OperationError::Unsupported);
    assert!(matches!(
        error(reserve(vec![scalar("cpus", 1.0)])),
        OperationError::NotReserved(_)
    ));
    assert!(matches!(
        error(create(vec![reserved("disk", 1.0)])),
        OperationError::NotAVolume(_)
    ));
    let mut unreserved = volume("v", 1.0);
    unreserved.reservations.clear();
    assert!(conversions(&create(vec![unreserved])).is_err());
    assert!(matches!(
        error(reserve(vec![reserved("cpus", -1.0)])),
        OperationError::Invalid(_)
    ));
    for by in [64.0, 65.0, 0.0, -1.0, f64::NAN] {
        assert_eq!(
            error(shrink(volume("v", 64.0), by)),
            OperationError::TooSmall
        );
    }
}

#[test]
fn a_shared_volume_goes_only_when_nobody_else_holds_it() {
    let mut shared = volume("v", 1.0);
    shared.shared = Some(resource::SharedInfo {});
    let mut now = after(&[
        reserve(vec![reserved("disk", 1.0)]),
        create(vec![shared.clone()]),
    ]);
    let another = Resources::from_proto([&shared]);
    now += &another;
    assert!(matches!(
        apply(&now, &destroy(vec![shared.clone()])),
        Err(OperationError::StillShared(_))
    ));
    now.subtract(&another).unwrap();
    assert!(apply(&now, &destroy(vec![shared])).is_ok());
}

#[test]
fn who_something_is_allocated_to_does_not_matter() {
    let mut allocated = reserved("cpus", 1.0);
    allocated.allocation_info = Some(AllocationInfo {
        role: Some("prod".into()),
    });
    let made = after(&[reserve(vec![allocated])]);
    assert_eq!(made, after(&[reserve(vec![reserved("cpus", 1.0)])]));
}

#[test]
fn what_is_remembered_is_there_again_after_a_restart() {
    let before = after(&[
        reserve(vec![reserved("disk", 80.0), reserved("cpus", 1.0)]),
        create(vec![volume("v", 64.0)]),
    ]);
    let again = total().with_remembered(&before.to_remember()).unwrap();
    assert_eq!(again, before);
    let smaller = parse("cpus:4;disk:10", "*").unwrap();
    assert!(matches!(
        smaller.with_remembered(&before.to_remember()),
        Err(OperationError::NotContained { .. })
    ));
    assert!(matches!(
        total().with_remembered(&parse("cpus:1", "*").unwrap()),
        Err(OperationError::NothingToRemember(_))
    ));
}

#[test]
fn what_is_reserved_statically_is_remembered_on_top_of_that() {
    let total = parse("disk(prod):100", "*").unwrap();
    let mut made = volume("v", 30.0);
    made.reservations[0].r#type = Some(reservation_info::Type::Static.into());
    made.reservations[0].principal = None;
    let now = apply(&total, &create(vec![made])).unwrap();
    assert_eq!(total.with_remembered(&now.to_remember()).unwrap(), now);
}

#[test]
fn the_provider_of_an_operation_is_that_of_its_first_resource() {
    let id = ResourceProviderId { value: "p".into() };
    let mut resource = reserved("disk", 1.0);
    resource.provider_id = Some(id.clone());
    assert_eq!(provider_of(&reserve(vec![resource])), Some(&id));
    assert_eq!(provider_of(&reserve(vec![reserved("disk", 1.0)])), None);
    assert_eq!(provider_of(&reserve(vec![])), None);
}

fn operation() -> impl Strategy<Value = Operation> {
    let amount = || (0u32..80).prop_map(f64::from);
    let id = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        amount().prop_map(|n| reserve(vec![reserved("disk", n)])),
        amount().prop_map(|n| unreserve(vec![reserved("disk", n)])),
        (id(), amount()).prop_map(|(id, n)| create(vec![volume(id, n)])),
        (id(), amount()).prop_map(|(id, n)| destroy(vec![volume(id, n)])),
        (id(), amount(), amount()).prop_map(|(id, n, m)| grow(volume(id, n), m)),
        (id(), amount(), amount()).prop_map(|(id, n, m)| shrink(volume(id, n), m)),
    ]
}

proptest! {
    #[test]
    fn no_operation_makes_or_loses_anything(operations in prop::collection::vec(operation(), 0..40)) {
        let mut now = total();
        for operation in &operations {
            if let Ok(next) = apply(&now, operation) {
                now = next;
            }
            prop_assert_eq!(now.quantities(), total().quantities());
            let again = total().with_remembered(&now.to_remember());
            prop_assert_eq!(again, Ok(now.clone()));
            let read = Resources::from_proto(&now.to_proto());
            prop_assert_eq!(&read, &now);
            prop_assert_eq!(now.to_proto_as(Format::PostRefinement).len(), now.len());
        }
    }
}
