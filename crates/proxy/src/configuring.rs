//! What the proxy goes by, as it was told: the options, the files that belong to them, and what to do when either is another.
//!
//! Nothing that serves is given up for something that does not. Options that cannot be read change nothing. Files of TLS that
//! cannot be used leave those in force that were read last, by this process or by its predecessor, whose the node has kept
//! in memory: so a proxy that is started again while a file is broken serves what was served before. Files are read
//! anew every [`LOOK_EVERY`]: whoever renews certificates replaces one after the other, and until both are there they do
//! not fit each other, which is said only when it lasts.

use std::time::Duration;

use eagleray_types::control::{ConfigureProxy, ProxyConfigured};
use prost::Message as _;

use crate::{
    options::Options,
    settings::Settings,
    tls::{self, Pem, Server, TlsError, TlsOptions},
};

/// How often files are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks in a row at files that cannot be used, before anybody is told.
const LOOKS: u32 = 3;

/// Reads options as the node passes them on; what is not in them is as in the first.
pub type ReadOptions<'a> = dyn Fn(&str) -> Result<Options, String> + 'a;

/// See the module.
pub(crate) struct Configuring<'a> {
    read: &'a ReadOptions<'a>,
    /// As the process was started.
    first: Options,
    present: Options,
    /// Whose text `present` is.
    text: String,
    number: u64,
    loaded: Option<Loaded>,
    /// What is wrong with the files, although others are in force.
    problem: Option<TlsError>,
    looks_in_vain: u32,
}

/// Files that can be used.
struct Loaded {
    pem: Pem,
    server: Server,
}

/// What the threads are to be told, and what the node.
pub(crate) struct Step {
    /// `None`: they know it.
    pub(crate) settings: Option<Settings>,
    /// `None`: nothing new.
    pub(crate) said: Option<ProxyConfigured>,
}

impl<'a> Configuring<'a> {
    pub(crate) fn new(options: &Options, read: &'a ReadOptions<'a>) -> Self {
        let mut new = Self {
            read,
            first: options.clone(),
            present: options.clone(),
            text: String::new(),
            number: 0,
            loaded: None,
            problem: None,
            looks_in_vain: 0,
        };
        if let Some(tls) = &options.tls {
            let found = new.load(tls);
            new.take(found);
        }
        new
    }

    pub(crate) fn settings(&self) -> Settings {
        let server = self.loaded.as_ref().map(|loaded| loaded.server.clone());
        Settings::new(&self.present, server)
    }

    /// Why nobody can be served.
    pub(crate) fn unusable(&mut self) -> Option<TlsError> {
        match (&self.present.tls, &self.loaded) {
            (Some(_), None) => self.problem.take(),
            _ => None,
        }
    }

    /// The files that belong to the settings.
    pub(crate) fn files(&self) -> Option<&TlsOptions> {
        self.present.tls.as_ref()
    }

    /// The node has this to say of the settings.
    pub(crate) fn configure(&mut self, told: &ConfigureProxy) -> Step {
        let read = match told.settings.as_str() {
            "" => Ok(self.first.clone()),
            text => (self.read)(text),
        };
        let mut options = match read {
            Ok(options) => options,
            Err(problem) => {
                self.number = told.number;
                return Step {
                    settings: None,
                    said: Some(self.say(format!("http_options: {problem}"))),
                };
            }
        };
        // Whether clients speak TLS is as final as where they connect.
        match (&self.first.tls, &mut options.tls) {
            (None, tls) => *tls = None,
            (Some(first), tls @ None) => *tls = Some(first.clone()),
            (Some(_), Some(_)) => {}
        }
        let is_new = self.text != told.settings;
        self.present = options;
        self.text.clone_from(&told.settings);
        self.number = told.number;
        let changed = match &self.present.tls {
            None => false,
            Some(tls) => {
                let found = self.load(tls);
                self.take(found)
            }
        };
        let inherited = self.loaded.is_none() && self.inherit(&told.kept);
        let problem = self.problem.as_ref().map(ToString::to_string);
        let mut said = self.say(problem.unwrap_or_default());
        if changed {
            said.kept = self.kept();
        }
        Step {
            settings: (is_new || changed || inherited).then(|| self.settings()),
            said: Some(said),
        }
    }

    /// Somebody has looked at [`Self::files`].
    pub(crate) fn looked(&mut self, of: &TlsOptions, read: Result<Pem, TlsError>) -> Step {
        let nothing = Step {
            settings: None,
            said: None,
        };
        if self.present.tls.as_ref() != Some(of) {
            return nothing;
        }
        let had_problem = self.problem.is_some();
        let found = read.and_then(|pem| self.understand(of, pem));
        if let Err(problem) = found {
            self.looks_in_vain += 1;
            if self.looks_in_vain < LOOKS || had_problem {
                return nothing;
            }
            let said = self.say(problem.to_string());
            self.problem = Some(problem);
            return Step {
                settings: None,
                said: Some(said),
            };
        }
        self.looks_in_vain = 0;
        let changed = self.take(found);
        if !changed && !had_problem {
            return nothing;
        }
        let mut said = self.say(String::new());
        if changed {
            said.kept = self.kept();
            said.renewed = format!("{} was read anew", of.certificate.display());
        }
        Step {
            settings: changed.then(|| self.settings()),
            said: Some(said),
        }
    }

    /// What a successor may need; `None`: nothing.
    pub(crate) fn introduce(&self) -> Option<ProxyConfigured> {
        let problem = self.problem.as_ref().map(ToString::to_string);
        let said = ProxyConfigured {
            kept: self.kept(),
            ..self.say(problem.unwrap_or_default())
        };
        (!said.kept.is_empty()).then_some(said)
    }

    fn kept(&self) -> Vec<u8> {
        let loaded = self.loaded.as_ref();
        loaded.map_or_else(Vec::new, |loaded| loaded.pem.encode_to_vec())
    }

    fn say(&self, problem: String) -> ProxyConfigured {
        ProxyConfigured {
            number: self.number,
            problem,
            ..ProxyConfigured::default()
        }
    }

    fn load(&self, tls: &TlsOptions) -> Result<Option<Loaded>, TlsError> {
        Pem::read(tls).and_then(|pem| self.understand(tls, pem))
    }

    /// What was read, unless it is what is in force.
    fn understand(&self, tls: &TlsOptions, pem: Pem) -> Result<Option<Loaded>, TlsError> {
        if self.loaded.as_ref().is_some_and(|loaded| loaded.pem == pem) {
            return Ok(None);
        }
        let server = tls.server(&pem)?;
        tls::begin_randomness();
        Ok(Some(Loaded { pem, server }))
    }

    /// Takes files that were loaded. Returns whether they are others.
    fn take(&mut self, loaded: Result<Option<Loaded>, TlsError>) -> bool {
        self.problem = None;
        match loaded {
            Ok(None) => false,
            Ok(loaded) => {
                self.loaded = loaded;
                true
            }
            Err(problem) => {
                self.problem = Some(problem);
                false
            }
        }
    }

    /// Takes what a predecessor served with.
    fn inherit(&mut self, kept: &[u8]) -> bool {
        let Some(tls) = self.present.tls.as_ref().filter(|_| !kept.is_empty()) else {
            return false;
        };
        let loaded = Pem::decode(kept).ok().and_then(|pem| {
            let server = tls.server(&pem).ok()?;
            Some(Loaded { pem, server })
        });
        let is_there = loaded.is_some();
        self.loaded = loaded;
        is_there
    }
}

#[cfg(test)]
mod tests;
