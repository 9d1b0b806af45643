//! Resources as operators and error messages write them.

use std::sync::Arc;
use tepui_model::resources::{describe, parse, parse_list};
use tepui_protocol::v1::{
    self, Resource,
    resource::{DiskInfo, ReservationInfo, disk_info, reservation_info},
    value,
};

#[test]
fn text_and_json_say_the_same() {
    let json = r#"[
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}},
        {"name": "ports", "type": "RANGES", "role": "eng", "ranges": {"range": [{"begin": 1, "end": 3}]}},
        {"name": "zones", "type": "SET", "set": {"item": ["a", "b"]}}
    ]"#;
    assert_eq!(
        parse(json, "*"),
        parse("cpus:4;ports(eng):[1-3];zones:{a,b}", "*")
    );
}

#[test]
fn what_has_no_role_gets_the_default() {
    assert_eq!(
        parse("cpus:4;mem(*):1", "eng"),
        parse("cpus(eng):4;mem:1", "*")
    );
    let json = r#"[{"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}}]"#;
    assert_eq!(parse(json, "eng"), parse("cpus(eng):4", "*"));
}

#[test]
fn spaces_and_empty_pieces_are_forgiven() {
    assert_eq!(
        parse(
            " cpus : 4 ;; ports ( eng ):[ 4000 - 5000 , 7000-8000 ];",
            "*"
        ),
        parse("cpus:4;ports(eng):[4000-5000,7000-8000]", "*")
    );
    assert_eq!(parse("", "*").map(|r| r.is_empty()), Ok(true));
}

#[test]
fn bad_texts_are_refused_in_the_words_of_the_reference() {
    for (text, error) in [
        (
            "cpus",
            "Bad value for resources, missing or extra ':' in cpus",
        ),
        (
            "cpus:1:2",
            "Bad value for resources, missing or extra ':' in cpus:1:2",
        ),
        (
            "cpus(eng:1",
            "Bad value for resources, mismatched parentheses in cpus(eng:1",
        ),
        (
            "cpus)eng(:1",
            "Bad value for resources, mismatched parentheses in cpus)eng(:1",
        ),
        (
            "cpus:fast",
            "Bad type for resource cpus value fast type TEXT",
        ),
        ("cpus:-1", "Bad type for resource cpus value -1 type TEXT"),
        (
            "ports:[1-2",
            "Failed to parse resource ports value [1-2 error Mismatched brackets",
        ),
        ("cpus:0.0001", "Invalid scalar resource: value <= 0"),
        ("zones:{a,a}", "Invalid set resource: duplicated elements"),
        (
            "cpus(a b):1",
            "Role component 'a b' is invalid because it contains backspace or whitespace",
        ),
        (
            "x:1;x:[1-2]",
            "Resources with the same name ('x') but different types are not allowed",
        ),
        (":1;", "Bad value for resources, missing or extra ':' in :1"),
        ("(eng):1", "Empty resource name"),
        (
            r#"[{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}, "revocable": {}}]"#,
            "Revocable resources cannot be specified at the command line; do not include a 'revocable' key in the resources JSON",
        ),
        (
            r#"[{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}, "role": "eng", "reservation": {}}]"#,
            "Dynamic reservations cannot be specified at the command line; do not include a reservation with DYNAMIC type in the resources JSON",
        ),
        (
            r#"[{"name": "disk", "type": "SCALAR", "scalar": {"value": 1}, "disk": {"persistence": {"id": "v"}}}]"#,
            "Persistent volumes cannot be specified at the command line",
        ),
    ] {
        assert_eq!(
            parse(text, "*").expect_err(text).to_string(),
            error,
            "{text}"
        );
    }
    let bad_json = parse(r#"[{"name": "cpus"}]"#, "*")
        .expect_err("no type")
        .to_string();
    assert!(
        bad_json.starts_with("Some JSON resources were not formatted properly: "),
        "{bad_json}"
    );
}

#[test]
fn the_unjudged_list_keeps_what_is_empty_or_invalid() {
    let list = parse_list("cpus:0;zones:{a,a}", "*").expect("well formed");
    assert_eq!(list.len(), 2);
}

#[test]
fn resources_print_as_in_the_reference() {
    let role: Arc<str> = "eng".into();
    let resources =
        parse("cpus(eng):1.5;mem:1024;ports:[1-2,4-4];zones:{b,a}", "*").expect("resources");
    assert_eq!(
        resources.to_string(),
        "cpus(reservations: [(STATIC,eng)]):1.5; mem:1024; ports:[1-2, 4-4]; zones:{a, b}"
    );
    assert_eq!(
        parse("cpus:1", "*")
            .expect("cpus")
            .to_revocable()
            .allocated(&role)
            .to_string(),
        "cpus(allocated: eng){REV}:1"
    );
    assert_eq!(parse("", "*").expect("nothing").to_string(), "{}");
}

#[test]
fn disks_and_labels_print_as_in_the_reference() {
    let label = |key: &str, value: Option<&str>| v1::Label {
        key: key.into(),
        value: value.map(Into::into),
    };
    let mut source = disk_info::Source {
        mount: Some(Default::default()),
        ..Default::default()
    };
    source.set_type(disk_info::source::Type::Mount);
    if let Some(mount) = &mut source.mount {
        mount.root = Some("/mnt".into());
    }
    let volume = v1::Volume {
        container_path: "data".into(),
        host_path: Some("/h".into()),
        mode: v1::volume::Mode::Ro as i32,
        ..Default::default()
    };
    let resource = Resource {
        name: "disk".into(),
        scalar: Some(value::Scalar { value: 10.0 }),
        reservations: vec![ReservationInfo {
            r#type: Some(reservation_info::Type::Dynamic as i32),
            role: Some("eng".into()),
            principal: Some("p".into()),
            labels: Some(v1::Labels {
                labels: vec![label("k", Some("v")), label("bare", None)],
            }),
        }],
        disk: Some(Box::new(DiskInfo {
            source: Some(source),
            persistence: Some(disk_info::Persistence {
                id: "id".into(),
                principal: None,
            }),
            volume: Some(volume),
        })),
        shared: Some(Default::default()),
        ..Default::default()
    };
    assert_eq!(
        describe(&resource),
        "disk(reservations: [(DYNAMIC,eng,p,{k: v, bare})])[MOUNT:/mnt,id:/h:data:ro]<SHARED>:10"
    );
}
