//! What is asked and answered about licences and API keys. Moments are texts as in
//! `2027-01-31T00:00:00Z`.

use serde::{Deserialize, Serialize};

/// An API key just made.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewApiKey {
    /// The secret. Shown this once.
    pub api_key: String,
    /// Its public name, for lists and logs.
    pub id: String,
}

/// A licence to issue.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewLicence {
    /// For people.
    pub name: String,
    /// Whose locks its API keys open; a new one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// How many attempts in a period; any number if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `month` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// A date or a moment; never if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A licence just issued.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewLicenceKey {
    /// Its public name.
    pub id: String,
    /// Whose locks its API keys open.
    pub identity: String,
    /// The secret. Shown this once.
    pub licence_key: String,
}

/// Some of the licences.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LicencesPage {
    /// In the order of their ids.
    pub licences: Vec<LicenceInfo>,
    /// For the next page; `None` at the end.
    pub cursor: Option<String>,
}

/// A licence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LicenceInfo {
    /// Its public name.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whose locks its API keys open.
    pub identity: String,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    /// Made by the cluster for its bootstrap key.
    pub built_in: bool,
    /// Attempts in a period; `None`: any number.
    pub limit: Option<u64>,
    /// `month` or `none`.
    pub period: String,
    /// Attempts used in this period.
    pub used: u64,
    /// When it was issued.
    pub created: Option<String>,
    /// From when on it is no longer active.
    pub expires: Option<String>,
    /// When it was taken back.
    pub revoked: Option<String>,
    /// Its API keys, where one licence was asked for.
    #[serde(default)]
    pub keys: Vec<ApiKeyInfo>,
}

/// An API key as the operator may see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyInfo {
    /// Its public name.
    pub id: String,
    /// When it was made.
    pub created: Option<String>,
    /// When it took a lock last, or tried to.
    pub last_used: Option<String>,
}

/// What a licence has used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageInfo {
    /// Attempts in this period.
    pub used: u64,
    /// Attempts in a period; `None`: any number.
    pub limit: Option<u64>,
    /// When this period began.
    pub period_start: Option<String>,
    /// When it ends, if it does.
    pub period_end: Option<String>,
    /// Attempts at its end, if it goes on like this.
    pub forecast: Option<u64>,
    /// The periods before.
    pub previous: Vec<PastUsage>,
}

/// What a licence used in a period that is over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastUsage {
    /// When it began.
    pub period_start: Option<String>,
    /// Attempts in it.
    pub used: u64,
}
