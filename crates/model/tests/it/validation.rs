//! What is no resource, in the words of the reference.

use tepui_model::{
    Resources,
    resources::{validate, validate_all},
};
use tepui_protocol::v1::{
    Resource,
    resource::{
        DiskInfo, ReservationInfo,
        disk_info::{Source, source},
        reservation_info::Type::{self, Dynamic, Static},
    },
    value,
};

fn cpus(amount: f64) -> Resource {
    Resource {
        name: "cpus".into(),
        scalar: Some(value::Scalar { value: amount }),
        ..Default::default()
    }
}

fn ranges(pairs: &[(u64, u64)]) -> Resource {
    let range = pairs
        .iter()
        .map(|(begin, end)| value::Range {
            begin: *begin,
            end: *end,
        })
        .collect();
    let mut ports = Resource {
        name: "ports".into(),
        ranges: Some(value::Ranges { range }),
        ..Default::default()
    };
    ports.set_type(value::Type::Ranges);
    ports
}

fn reservation(role: Option<&str>, kind: Option<Type>) -> ReservationInfo {
    ReservationInfo {
        r#type: kind.map(|k| k as i32),
        role: role.map(Into::into),
        ..Default::default()
    }
}

fn stacked(stack: &[(Option<&str>, Option<Type>)]) -> Resource {
    let reservations = stack
        .iter()
        .map(|(role, kind)| reservation(*role, *kind))
        .collect();
    Resource {
        reservations,
        ..cpus(1.0)
    }
}

fn disk_source(kind: i32) -> Resource {
    let source = Source {
        r#type: kind,
        path: Some(Default::default()),
        ..Default::default()
    };
    let disk = Some(Box::new(DiskInfo {
        source: Some(source),
        ..Default::default()
    }));
    Resource {
        name: "disk".into(),
        disk,
        ..cpus(1.0)
    }
}

#[test]
fn invalid_resources_are_named() {
    let eng = Some("eng");
    let with = |resource: Resource, change: &dyn Fn(&mut Resource)| {
        let mut resource = resource;
        change(&mut resource);
        resource
    };
    let cases: Vec<(Resource, &str)> = vec![
        (with(cpus(1.0), &|r| r.name.clear()), "Empty resource name"),
        (with(cpus(1.0), &|r| r.r#type = 9), "Invalid resource type"),
        (
            with(cpus(1.0), &|r| r.r#type = value::Type::Text as i32),
            "Unsupported resource type",
        ),
        (
            with(cpus(1.0), &|r| r.scalar = None),
            "Invalid scalar resource",
        ),
        (
            with(cpus(1.0), &|r| r.set = Some(Default::default())),
            "Invalid scalar resource",
        ),
        (cpus(-1.0), "Invalid scalar resource: value <= 0"),
        (cpus(0.0004), "Invalid scalar resource: value <= 0"),
        (cpus(f64::NAN), "Invalid scalar resource: value <= 0"),
        (
            with(ranges(&[]), &|r| r.ranges = None),
            "Invalid ranges resource",
        ),
        (ranges(&[(2, 1)]), "Invalid ranges resource: begin > end"),
        (
            ranges(&[(1, 5), (5, 9)]),
            "Invalid ranges resource: overlapping ranges",
        ),
        (
            ranges(&[(5, 9), (1, 5)]),
            "Invalid ranges resource: overlapping ranges",
        ),
        (
            with(cpus(1.0), &|r| r.r#type = value::Type::Set as i32),
            "Invalid set resource",
        ),
        (
            with(cpus(1.0), &|r| r.disk = Some(Default::default())),
            "DiskInfo should not be set for cpus resource",
        ),
        (
            disk_source(source::Type::Raw as i32),
            "Path should not be set for RAW disk source",
        ),
        (
            disk_source(source::Type::Unknown as i32),
            "Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'",
        ),
        (
            with(cpus(1.0), &|r| r.role = Some("/x".into())),
            "Role '/x' cannot start with a slash",
        ),
        (
            with(cpus(1.0), &|r| r.reservation = Some(Default::default())),
            "Invalid reservation: role \"*\" cannot be dynamically reserved",
        ),
        (
            with(cpus(1.0), &|r| {
                r.role = Some("eng".into());
                r.reservation = Some(reservation(None, Some(Dynamic)));
            }),
            "'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field",
        ),
        (
            stacked(&[(eng, None)]),
            "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
        ),
        (
            stacked(&[(None, Some(Static))]),
            "Invalid reservation: 'Resource.ReservationInfo.role' field must be set.",
        ),
        (
            stacked(&[(Some("*"), Some(Static))]),
            "Invalid reservation: role \"*\" cannot be reserved",
        ),
        (
            stacked(&[(eng, Some(Static)), (Some("eng/web"), Some(Static))]),
            "Invalid refined reservation: A refined reservation cannot be STATIC",
        ),
        (
            stacked(&[(eng, Some(Static)), (Some("ops"), Some(Dynamic))]),
            "Invalid refined reservation: role 'ops' is not a refinement of 'eng'",
        ),
        (
            with(stacked(&[(eng, Some(Static))]), &|r| {
                r.role = Some("ops".into())
            }),
            "Invalid resource format: 'Resource.role' field with 'ops' does not match the role 'eng' in 'Resource.reservations'",
        ),
        (
            with(stacked(&[(eng, Some(Dynamic))]), &|r| {
                r.role = Some("eng".into())
            }),
            "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not set if the single reservation in 'Resource.reservations' is DYNAMIC",
        ),
        (
            with(
                stacked(&[(eng, Some(Static)), (Some("eng/web"), Some(Dynamic))]),
                &|r| r.role = Some("eng".into()),
            ),
            "Invalid resource format: 'Resource.role' must not be set if there is more than one reservation in 'Resource.reservations'",
        ),
        (
            with(cpus(1.0), &|r| r.shared = Some(Default::default())),
            "Resource cpus cannot be shared",
        ),
        (
            with(cpus(1.0), &|r| {
                r.name = "disk".into();
                r.shared = Some(Default::default());
            }),
            "Only persistent volumes can be shared",
        ),
    ];
    for (resource, error) in cases {
        assert_eq!(validate(&resource).expect_err(error).to_string(), error);
        assert!(
            Resources::from_proto(&[resource]).is_empty(),
            "{error}: left out"
        );
    }
}

#[test]
fn valid_and_empty_resources_pass() {
    for resource in [cpus(0.0), cpus(0.5), ranges(&[]), ranges(&[(6, 9), (1, 5)])] {
        assert_eq!(validate(&resource), Ok(()));
    }
    assert!(Resources::from_proto(&[cpus(0.0)]).is_empty());
}

#[test]
fn the_culprit_is_shown() {
    let error = validate_all(&[cpus(1.0), cpus(-2.0)]).expect_err("negative");
    assert_eq!(
        error.to_string(),
        "Resource 'cpus:-2' is invalid: Invalid scalar resource: value <= 0"
    );
}
