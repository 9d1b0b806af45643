//! As whom a person's command speaks to the cluster: `--principal` and `--secret`, a file with
//! both, or the environment, which keeps secrets out of lists of processes.

use crate::role::auth::{AuthError, credential_file};
use tepui_client::Credential;

/// What a command line says about it.
#[derive(Default)]
pub(crate) struct Identity {
    /// `--principal`
    pub(crate) principal: Option<String>,
    /// `--secret`
    pub(crate) secret: Option<String>,
    /// `--credential`
    pub(crate) file: Option<String>,
}

/// A command that does not say who is asking, or only half of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(transparent)]
    File(#[from] AuthError),
    #[error("--secret needs --principal")]
    NoPrincipal,
    #[error("--principal needs --secret or --credential=FILE")]
    NoSecret,
}

impl Identity {
    /// The credential to use. What stands on the command line comes before the environment.
    pub(crate) fn credential(
        self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Credential>, IdentityError> {
        let variable = |name: &str| {
            let ours = environment(&format!("TEPUI_{name}"));
            ours.or_else(|| environment(&format!("MESOS_{name}")))
        };
        if let Some(file) = &self.file {
            return from_file(file).map(Some);
        }
        match (self.principal, self.secret) {
            (None, None) => {}
            (None, Some(_)) => return Err(IdentityError::NoPrincipal),
            (Some(principal), secret) => {
                let secret = secret.or_else(|| variable("SECRET"));
                let secret = secret.ok_or(IdentityError::NoSecret)?;
                return Ok(Some(Credential { principal, secret }));
            }
        }
        if let (Some(principal), Some(secret)) = (variable("PRINCIPAL"), variable("SECRET")) {
            return Ok(Some(Credential { principal, secret }));
        }
        match variable("CREDENTIAL") {
            Some(file) => from_file(&file).map(Some),
            None => Ok(None),
        }
    }
}

fn from_file(path: &str) -> Result<Credential, IdentityError> {
    let credential = credential_file(path)?;
    Ok(Credential {
        principal: credential.principal.to_string(),
        secret: String::from_utf8_lossy(credential.secret.expose()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        given: [Option<&str>; 3],
        variables: &[(&str, &str)],
    ) -> Result<Option<(String, String)>, String> {
        let [principal, secret, file] = given.map(|text| text.map(str::to_owned));
        let identity = Identity {
            principal,
            secret,
            file,
        };
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let credential = identity.credential(environment);
        credential
            .map(|found| found.map(|found| (found.principal, found.secret)))
            .map_err(|error| error.to_string())
    }

    fn pair(principal: &str, secret: &str) -> Result<Option<(String, String)>, String> {
        Ok(Some((principal.to_owned(), secret.to_owned())))
    }

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let variables = [("MESOS_PRINCIPAL", "e"), ("MESOS_SECRET", "f")];
        assert_eq!(chosen([None; 3], &[]), Ok(None));
        assert_eq!(chosen([None; 3], &variables), pair("e", "f"));
        assert_eq!(
            chosen([Some("a"), Some("b"), None], &variables),
            pair("a", "b")
        );
        assert_eq!(chosen([Some("a"), None, None], &variables), pair("a", "f"));
        let ours = [("TEPUI_PRINCIPAL", "g"), ("TEPUI_SECRET", "h")];
        let both = [&variables[..], &ours[..]].concat();
        assert_eq!(chosen([None; 3], &both), pair("g", "h"));
    }

    #[test]
    fn half_an_identity_is_refused() {
        assert_eq!(
            chosen([Some("a"), None, None], &[]),
            Err("--principal needs --secret or --credential=FILE".to_owned())
        );
        assert_eq!(
            chosen([None, Some("b"), None], &[]),
            Err("--secret needs --principal".to_owned())
        );
    }

    #[test]
    fn a_file_gives_both() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        std::fs::write(&path, "{\"principal\": \"a\", \"secret\": \"b\"}").unwrap();
        let path = path.display().to_string();
        assert_eq!(chosen([None, None, Some(&path)], &[]), pair("a", "b"));
        assert_eq!(
            chosen([None; 3], &[("MESOS_CREDENTIAL", &path)]),
            pair("a", "b")
        );
        let nowhere = chosen([None, None, Some("/nowhere")], &[]).unwrap_err();
        assert!(nowhere.starts_with("Failed to read credential file '/nowhere'"));
    }
}
