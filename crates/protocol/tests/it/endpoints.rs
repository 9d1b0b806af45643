//! JSON documents of read-only endpoints that are protobuf messages underneath, and full responses
//! recorded one by one.

use crate::{first_difference, lines};
use serde_json::Value;
use tepui_protocol::json::{self, Names};

/// Reads a recorded document as the message it is and writes it again.
fn rewritten(name: &str, recorded: &Value, names: Names) -> Value {
    let bytes = json::decode_bytes(name, recorded.to_string().as_bytes(), names).expect(name);
    let mut text = String::new();
    json::encode_bytes(name, &bytes, names, &mut text).expect(name);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn documents_of_endpoints_come_back_unchanged() {
    let mut seen = 0;
    for line in ["basic", "operator"]
        .iter()
        .flat_map(|s| lines(&format!("{s}.http.jsonl")))
    {
        let recorded = &line["response"]["body"];
        let (name, documents) = match line["request"]["path"].as_str() {
            Some("/quota") => ("mesos.v1.quota.QuotaStatus", vec![recorded.clone()]),
            Some("/weights") => (
                "mesos.v1.WeightInfo",
                recorded.as_array().expect("a list").clone(),
            ),
            Some("/maintenance/schedule") => {
                ("mesos.v1.maintenance.Schedule", vec![recorded.clone()])
            }
            Some("/maintenance/status") => {
                ("mesos.v1.maintenance.ClusterStatus", vec![recorded.clone()])
            }
            Some("/registrar(1)/registry") => ("mesos.internal.Registry", vec![recorded.clone()]),
            _ => continue,
        };
        for document in documents {
            seen += 1;
            let ours = rewritten(name, &document, Names::V0);
            assert_eq!(first_difference(&ours, &document, name), None);
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn operator_responses_come_back_unchanged() {
    let mut seen = 0;
    for line in lines("operator.http.jsonl") {
        let (request, response) = (&line["request"], &line["response"]);
        if request["path"] != "/api/v1" {
            continue;
        }
        let (call, answer) = match request["to"].as_str() {
            Some("agent") => ("mesos.v1.agent.Call", "mesos.v1.agent.Response"),
            _ => ("mesos.v1.master.Call", "mesos.v1.master.Response"),
        };
        rewritten(call, &request["body"], Names::V1);
        if response["body"].is_object() {
            seen += 1;
            let ours = rewritten(answer, &response["body"], Names::V1);
            assert_eq!(first_difference(&ours, &response["body"], ""), None);
        }
    }
    assert!(seen > 25, "{seen}");
}

#[test]
fn every_recorded_document_parses() {
    for scenario in ["auth", "basic", "ha", "operator", "errors"] {
        for line in lines(&format!("{scenario}.http.jsonl")) {
            for document in [&line["request"]["body"], &line["response"]["body"]] {
                assert_eq!(
                    json::parse(document.to_string().as_bytes()).as_ref(),
                    Ok(document)
                );
            }
        }
    }
}
