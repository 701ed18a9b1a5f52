//! A network of its own for a fleet: every process in a network namespace, joined by a bridge in another one, so that the links
//! between any two can be cut as a firewall or a broken switch would: what is sent is not answered, and nobody is told.
//!
//! It takes root, `ip` and `iptables`. The test that uses one runs itself again inside the namespace of the bridge.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::program::show;

/// Set in the test that runs inside: what the names of its namespaces begin with.
const INSIDE: &str = "GLINT_TEST_NET";
/// Set where a network must be had.
const REQUIRED: &str = "GLINT_REQUIRE_NETNS";

/// Namespaces and bridge; they go with it.
pub(crate) struct Net {
    prefix: String,
    hosts: usize,
}

/// Runs a program to its end.
fn does(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{program} {}: {}",
        arguments.join(" "),
        said.trim()
    ))
}

fn ip(line: &str) -> Result<(), String> {
    does("ip", &line.split(' ').collect::<Vec<_>>())
}

/// The address of a host, 0 that of the bridge.
pub(crate) fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

impl Net {
    /// A network of so many hosts; if it cannot be had, that is said in one line, or, where it must be had, the test fails.
    pub(crate) fn of(hosts: usize) -> Option<Self> {
        let net = Self {
            prefix: format!("glint{}", std::process::id()),
            hosts,
        };
        match net.build() {
            Ok(()) => Some(net),
            Err(why) => {
                assert!(env::var_os(REQUIRED).is_none(), "{REQUIRED} is set: {why}");
                show(&format!(
                    "no links are cut: network namespaces cannot be had here ({why}); {REQUIRED}=1 makes that a failure"
                ));
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let hub = self.namespace(0);
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link set lo up"))?;
        ip(&format!("-n {hub} link add br0 type bridge"))?;
        ip(&format!("-n {hub} addr add {}/24 dev br0", address(0)))?;
        ip(&format!("-n {hub} link set br0 up"))?;
        for host in 1..=self.hosts {
            let own = self.namespace(host);
            ip(&format!("netns add {own}"))?;
            ip(&format!("-n {own} link set lo up"))?;
            ip(&format!(
                "link add to{host} netns {hub} type veth peer name up0 netns {own}"
            ))?;
            ip(&format!("-n {hub} link set to{host} master br0 up"))?;
            ip(&format!("-n {own} addr add {}/24 dev up0", address(host)))?;
            ip(&format!("-n {own} link set up0 up"))?;
            firewall(&own, &["-L", "INPUT", "-n"])?;
        }
        Ok(())
    }

    fn namespace(&self, host: usize) -> String {
        namespace(&self.prefix, host)
    }

    /// Runs an ignored test of this program inside, where the hosts are reached, and shows what it prints.
    pub(crate) fn run(&self, test: &str) {
        let inside = Command::new("ip")
            .args(["netns", "exec", &self.namespace(0)])
            .arg(env::current_exe().expect("a path"))
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(INSIDE, &self.prefix)
            .output()
            .expect("ip runs");
        let printed = String::from_utf8_lossy(&inside.stdout);
        let passed = inside.status.success() && printed.contains("1 passed");
        let errors = String::from_utf8_lossy(&inside.stderr);
        assert!(
            passed,
            "{test} inside a network of its own:\n{printed}{errors}"
        );
        show(errors.trim_end());
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in 0..=self.hosts {
            // One that was never made is none to remove.
            let _ = ip(&format!("netns del {}", self.namespace(host)));
        }
    }
}

fn namespace(prefix: &str, host: usize) -> String {
    format!("{prefix}-{host}")
}

fn firewall(namespace: &str, rule: &[&str]) -> Result<(), String> {
    let whole = [&["netns", "exec", namespace, "iptables", "-w"], rule].concat();
    does("ip", &whole)
}

/// The network that this test runs inside of.
#[derive(Clone)]
pub(crate) struct Site {
    prefix: String,
}

/// A link that is cut: whose it is, and the rules that cut it.
pub(crate) struct Cut {
    namespace: String,
    rules: Vec<Vec<String>>,
}

impl Site {
    pub(crate) fn here() -> Self {
        Self {
            prefix: env::var(INSIDE).expect("runs inside of a network, started by another test"),
        }
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, host: usize) -> String {
        namespace(&self.prefix, host)
    }

    /// Cuts a host off from another; both ways, or only what comes from there.
    pub(crate) fn cut(&self, host: usize, from: usize, both_ways: bool) -> Cut {
        let other = address(from);
        let mut rules = vec![vec!["INPUT".to_owned(), "-s".to_owned(), other.clone()]];
        if both_ways {
            rules.push(vec!["OUTPUT".to_owned(), "-d".to_owned(), other]);
        }
        Cut::make(self.namespace(host), rules)
    }

    /// Cuts a host off from everyone.
    pub(crate) fn isolate(&self, host: usize) -> Cut {
        let rules = ["INPUT", "OUTPUT"].map(|chain| vec![chain.to_owned()]);
        Cut::make(self.namespace(host), rules.to_vec())
    }
}

impl Cut {
    fn make(namespace: String, rules: Vec<Vec<String>>) -> Self {
        let cut = Self { namespace, rules };
        cut.apply("-A").expect("a link is cut");
        cut
    }

    fn apply(&self, what: &str) -> Result<(), String> {
        for rule in &self.rules {
            let rule = rule.iter().map(String::as_str);
            let whole: Vec<&str> = [what]
                .into_iter()
                .chain(rule)
                .chain(["-j", "DROP"])
                .collect();
            firewall(&self.namespace, &whole)?;
        }
        Ok(())
    }

    /// Lets everything pass again.
    pub(crate) fn mend(self) {
        self.apply("-D").expect("a link is mended");
    }
}
