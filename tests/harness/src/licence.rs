//! Licences and API keys, as an operator and a team ask for them.

use serde_json::{Value, json};

use super::client::Client;
use super::cluster::TestCluster;
use super::http::{Answer, Request};

/// A licence, its key in clear.
#[derive(Debug, Clone)]
pub struct Licence {
    pub id: String,
    pub key: String,
}

impl TestCluster {
    /// Sends a request of the operator's to one node.
    #[track_caller]
    pub fn admin(&self, node: u64, method: &'static str, path: &str, body: &Value) -> Answer {
        let request = match method {
            "POST" => Request::json(path, body),
            method => Request::new(method, path),
        };
        let client = self.client(node);
        client.send(&request.bearer(&self.admin_token))
    }

    /// Issues a licence, or panics. `more` goes over the name.
    #[track_caller]
    pub fn licence(&self, name: &str, more: &Value) -> Licence {
        let mut body = json!({ "name": name });
        for (field, value) in more.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let answer = self.admin(1, "POST", "/admin/licences", &body);
        assert_eq!(answer.status, 201, "{answer}");
        Licence {
            id: answer.text("id"),
            key: answer.text("licenceKey"),
        }
    }

    /// Makes an API key at one node, or panics.
    #[track_caller]
    pub fn make_key(&self, node: u64, licence: &Licence) -> String {
        let body = json!({ "licenceKey": licence.key });
        let answer = self.client(node).send(&Request::json("/api-key", &body));
        assert_eq!(answer.status, 200, "{answer}");
        answer.text("apiKey")
    }

    /// Deletes an API key at one node.
    #[track_caller]
    pub fn delete_key(&self, node: u64, licence: &Licence, api_key: &str) -> Answer {
        let body = json!({ "licenceKey": licence.key, "apiKey": api_key });
        let request = Request::json_by("DELETE", "/api-key", &body);
        self.client(node).send(&request)
    }

    /// Attempts charged so far.
    #[track_caller]
    pub fn used(&self, node: u64, licence: &Licence) -> u64 {
        let path = format!("/admin/licences/{}/usage", licence.id);
        let answer = self.admin(node, "GET", &path, &Value::Null);
        assert_eq!(answer.status, 200, "{answer}");
        answer.number("used")
    }

    /// A client of one node with another key.
    pub fn client_with(&self, node: u64, api_key: &str) -> Client {
        Client {
            api_key: api_key.to_owned(),
            ..self.client(node)
        }
    }
}
