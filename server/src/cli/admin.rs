//! What an admin does when something is gone for good: `glint server forget`, `glint adopt`.

use std::fmt::Write;

use clap::Args;
use glint_protocol::{
    ServerId,
    admin::{Adoption, ForgetServer},
    control::ClusterStatus,
};
use http::Method;

use super::{api::Target, print, table::Table};

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint server forget s3                   a server that ended, when others have copies of all that it has
  glint server forget s3 --dead            one that has the last copies of partitions: their values are lost from then on

Say --dead only when the server is gone with its data directory: a server that is merely down comes back by itself, with
everything. What is lost starts again with: glint model reset NAME")]
pub(crate) struct Forget {
    /// Name of the server, as `glint status` shows it.
    name: String,
    /// It is gone for good, whatever it holds.
    #[arg(long)]
    dead: bool,
    #[command(flatten)]
    target: Target,
}

impl Forget {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let request = ForgetServer {
            server: ServerId(self.name),
            dead: self.dead,
        };
        let api = self.target.api()?;
        let _: serde_json::Value = api
            .call(Method::POST, "/v1/servers/forget", &request)
            .await?;
        print(&format!("forgot server {}\n", request.server))
    }
}

/// Show how far a master that lost its data directory has taken over what servers hold, or end that.
#[derive(Args)]
#[command(after_help = "\
Examples:
  glint master --data-dir ./new --adopt    a master whose data directory was lost takes over what servers hold
  glint adopt                              what it has found so far
  glint adopt --finish                     all servers have come: what none of them has is lost
  glint adopt --finish --take-uncertain    and where no holder lives that knows who else had everything, the latest copy is taken

Until it is ended, no model can be made: a server that is still to come may have one of that name.")]
pub(crate) struct Adopt {
    /// End it: what no server has reported is lost from now on.
    #[arg(long)]
    finish: bool,
    /// Of partitions whose copies may lack something, take the latest: right if all servers have come that had a copy.
    #[arg(long, requires = "finish")]
    take_uncertain: bool,
    /// Give up partitions whose copies may lack something: they are lost.
    #[arg(long, requires = "finish", conflicts_with = "take_uncertain")]
    lose_uncertain: bool,
    #[command(flatten)]
    target: Target,
}

impl Adopt {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = self.target.api()?;
        if self.finish {
            let uncertain = match (self.take_uncertain, self.lose_uncertain) {
                (true, _) => "take",
                (_, true) => "lose",
                _ => "refuse",
            };
            let path = format!("/v1/adopt/finish?uncertain={uncertain}");
            let adoption: Adoption = api.call(Method::POST, &path, &()).await?;
            return print(&format!("ended.\n\n{}", show(&adoption)?));
        }
        let status: ClusterStatus = api.get("/v1/status").await?;
        match status.adoption {
            Some(adoption) => print(&show(&adoption)?),
            None => print("This master adopts nothing: it has a state of its own.\n"),
        }
    }
}

/// How far an adoption is, for people.
pub(crate) fn show(adoption: &Adoption) -> anyhow::Result<String> {
    let mut text = String::new();
    let servers: Vec<&str> = adoption.servers.iter().map(|s| s.0.as_str()).collect();
    if servers.is_empty() {
        text.push_str("No server has registered yet.\n");
    } else {
        writeln!(text, "servers that have come: {}", servers.join(", "))?;
    }
    if !adoption.models.is_empty() {
        let mut table = Table::new(&["MODEL", "ID", ">FOUND", ">PARTITIONS", "STATE"]);
        for model in &adoption.models {
            table.row(vec![
                model.name.clone(),
                model.incarnation.to_string(),
                model.found.to_string(),
                model.partitions.to_string(),
                if model.live { "serves" } else { "waits" }.to_owned(),
            ]);
        }
        text.push_str(&table.render());
    }
    for orphan in &adoption.orphans {
        writeln!(text, "not taken: {orphan}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use glint_protocol::{Incarnation, admin::AdoptedModel};

    use super::*;

    #[test]
    fn an_adoption_shows_what_was_found_and_what_waits() {
        let adoption = Adoption {
            cluster_known: true,
            servers: vec![ServerId("s1".into())],
            models: vec![AdoptedModel {
                name: "topics".into(),
                incarnation: Incarnation::default(),
                partitions: 8,
                found: 5,
                uncertain: 1,
                live: false,
            }],
            orphans: vec!["something on s1: unknown".into()],
        };
        let text = show(&adoption).unwrap();
        for part in ["s1", "topics", "5", "8", "waits", "not taken: something"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
