//! What an admin does about where copies are: `glint drain`, `glint move`, `glint rebalance`.

use std::time::Duration;

use clap::Args;
use glint_protocol::{
    ServerId,
    admin::{DrainState, Draining, MoveCopy, PlannedMove, RebalancePlan},
    control::{ClusterStatus, ServerState},
};
use glint_server::master::Size;
use http::Method;

use super::{
    api::{Api, Target},
    print,
    table::Table,
};

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Moves that a plan shows.
const SHOWN: usize = 40;

/// Move everything off a server, so that it may go.
#[derive(Args)]
#[command(after_help = "\
Examples:
  glint drain s3                           everything on s3 moves to other servers, and nothing new comes to it
  glint drain s3 --wait                    the same, until it is empty
  glint drain s3 --cancel                  it stays after all

It is refused, with the numbers, when the other servers cannot hold what is there. See how far it is with: glint status --watch")]
pub(crate) struct Drain {
    /// Name of the server, as `glint status` shows it.
    name: String,
    /// End it: what is still there stays.
    #[arg(long)]
    cancel: bool,
    /// Wait until nothing is left on it.
    #[arg(long, conflicts_with = "cancel")]
    wait: bool,
    #[command(flatten)]
    target: Target,
}

impl Drain {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = self.target.api()?;
        let path = format!("/v1/servers/{}/drain", self.name);
        if self.cancel {
            let left: Draining = api.call(Method::DELETE, &path, &()).await?;
            return print(&format!(
                "server {} stays, with {} copies ({})\n",
                left.server,
                left.copies,
                Size(left.bytes)
            ));
        }
        let left: Draining = api.call(Method::POST, &path, &()).await?;
        print(&begun(&left))?;
        if self.wait {
            wait(&api, &left.server).await?;
        }
        Ok(())
    }
}

fn begun(left: &Draining) -> String {
    let id = &left.server;
    if left.state == Some(DrainState::Drained) {
        return format!("server {id} is drained: it has nothing and gets nothing\n");
    }
    let lost = match left.lost {
        0 => String::new(),
        lost => format!(
            "the values of {lost} partitions that it holds are lost: there is nothing of them to move\n"
        ),
    };
    format!(
        "server {id} is being drained: {} copies ({}) are left\n{lost}",
        left.copies,
        Size(left.bytes)
    )
}

async fn wait(api: &Api, id: &ServerId) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        let status: ClusterStatus = api.get("/v1/status").await?;
        let server = status.servers.iter().find(|s| s.id == *id);
        let Some(server) = server else {
            return print(&format!("server {id} is gone\n"));
        };
        match server.drain {
            Some(DrainState::Drained) => return print(&format!("server {id} is drained\n")),
            Some(DrainState::Draining) => {}
            None => anyhow::bail!("server {id} is not drained any more: it was cancelled"),
        }
        let left = (server.copies, server.placed_bytes, server.state);
        if told != Some(left) {
            let silent = if server.state == ServerState::Alive {
                ""
            } else {
                "; it does not answer, and what only it has waits for it"
            };
            print(&format!(
                "{} copies ({}) left{silent}\n",
                left.0,
                Size(left.1)
            ))?;
            told = Some(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Move one copy of a partition to a server.
#[derive(Args)]
#[command(after_help = "\
Examples:
  glint move topics 7 --to s2              partition 7 of model topics goes to s2, while it is read and written
  glint move topics 7 --from s1 --to s2    the copy on s1 goes; the holder's does where none is named

For a partition that is busier than others, as glint status shows them. See how far it is with: glint status --watch")]
pub(crate) struct Move {
    /// Name of the model.
    model: String,
    /// Which of its partitions, from 0.
    partition: u32,
    /// Server that shall have the copy.
    #[arg(long)]
    to: String,
    /// Server that has it now; the partition's holder, if none is named.
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Move {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = self.target.api()?;
        let path = format!(
            "/v1/models/{}/partitions/{}/move",
            self.model, self.partition
        );
        let request = MoveCopy {
            from: self.from.map(ServerId),
            to: ServerId(self.to),
        };
        let planned: PlannedMove = api.call(Method::POST, &path, &request).await?;
        print(&format!(
            "partition {} of model '{}' ({}) goes from {} to {}; see how far it is with: glint status --watch\n",
            planned.partition,
            planned.model,
            Size(planned.bytes),
            planned.from,
            planned.to
        ))
    }
}

/// Move copies until all servers have about as much.
#[derive(Args)]
#[command(after_help = "\
Examples:
  glint rebalance --dry-run                which copies would move
  glint rebalance                          move them

A server that joins gets its share by itself; this is for a cluster that has become uneven since.")]
pub(crate) struct Rebalance {
    /// Only show what would move.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

impl Rebalance {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = self.target.api()?;
        let path = format!("/v1/rebalance?dry_run={}", self.dry_run);
        let plan: RebalancePlan = api.call(Method::POST, &path, &()).await?;
        print(&show(&plan))
    }
}

fn show(plan: &RebalancePlan) -> String {
    let serve = match (plan.promotions, plan.dry_run) {
        (0, _) => String::new(),
        (count, true) => {
            format!(
                "{count} partitions would be held by another of their copies, which moves no bytes\n"
            )
        }
        (count, false) => {
            format!(
                "{count} partitions are held by another of their copies from now on, which moves no bytes\n"
            )
        }
    };
    if plan.count == 0 && plan.promotions > 0 {
        return serve;
    }
    if plan.count == 0 {
        return "All servers have about as much; nothing is to move.\n".to_owned();
    }
    let mut table = Table::new(&["MODEL", ">PARTITION", ">SIZE", "FROM", "TO"]);
    for planned in plan.moves.iter().take(SHOWN) {
        table.row(vec![
            planned.model.clone(),
            planned.partition.to_string(),
            Size(planned.bytes).to_string(),
            planned.from.to_string(),
            planned.to.to_string(),
        ]);
    }
    let more = if plan.count as usize > SHOWN {
        "…\n"
    } else {
        ""
    };
    let what = if plan.dry_run {
        "would move; nothing was done"
    } else {
        "move; see how far they are with: glint status --watch"
    };
    format!(
        "{}{more}\n{} copies ({}) {what}\n{serve}",
        table.render(),
        plan.count,
        Size(plan.bytes)
    )
}

#[cfg(test)]
mod tests {
    use glint_protocol::admin::PlannedMove;

    use super::*;

    #[test]
    fn a_plan_shows_what_moves_where_and_whether_it_does() {
        let mut plan = RebalancePlan {
            dry_run: true,
            count: 1,
            bytes: 1 << 20,
            promotions: 3,
            moves: vec![PlannedMove {
                model: "topics".into(),
                partition: 7,
                from: ServerId("s1".into()),
                to: ServerId("s2".into()),
                bytes: 1 << 20,
            }],
        };
        let text = show(&plan);
        for part in [
            "topics",
            "7",
            "1.0 MiB",
            "s1",
            "s2",
            "nothing was done",
            "3 partitions",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        (plan.count, plan.moves) = (0, vec![]);
        assert!(show(&plan).contains("moves no bytes"));
        plan.promotions = 0;
        assert!(show(&plan).contains("nothing is to move"));
    }

    #[test]
    fn a_drain_says_what_is_left_and_what_is_lost() {
        let mut left = Draining {
            server: ServerId("s1".into()),
            state: Some(DrainState::Draining),
            copies: 5,
            bytes: 1 << 20,
            lost: 2,
        };
        let text = begun(&left);
        for part in ["5 copies (1.0 MiB)", "2 partitions that it holds are lost"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        left.state = Some(DrainState::Drained);
        assert!(begun(&left).contains("is drained"));
    }
}
