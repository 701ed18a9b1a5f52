//! What happens, in which order.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use glint::Client;
use tokio::time::{Instant, sleep};

use crate::{
    Flags,
    event::Event,
    fleet::{Fate, Fleet},
    scene::Scene,
    stage::{Stage, count},
    training::Training,
};

/// How often is looked at everything.
const TICK: Duration = Duration::from_millis(100);
/// How long is shown what an act has come to.
const REST: Duration = Duration::from_secs(4);
/// How long an act may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A training with its servers.
struct Show<'a> {
    fleet: Fleet,
    training: Training,
    client: Client,
    scene: Scene,
    stage: &'a mut Stage,
}

/// Both trainings, and what they came to.
pub(crate) async fn play(flags: &Flags) -> Result<()> {
    let place = std::env::temp_dir().join(format!("glint-elastic-{}", std::process::id()));
    let played = both(flags, &place).await;
    match &played {
        Ok(()) => std::fs::remove_dir_all(&place)?,
        Err(_) => eprintln!("the logs of all processes are in {}", place.display()),
    }
    played
}

async fn both(flags: &Flags, place: &std::path::Path) -> Result<()> {
    let mut stage = Stage::new();
    stage.announce(
        "First in peace: two servers, and a program that trains a topic model on Reuters news.",
    );
    stage.say("Each partition of the model has two copies, in memory, on different servers.");
    let mut show = Show::start(flags, place.join("calm"), &mut stage).await?;
    show.until("the training is done", |show| show.swept(flags))
        .await?;
    let usual = show.training.longest_sweep();
    let calm = show.end().await?;
    stage.say(&format!(
        "Done: log-likelihood {:.0}. The longest sweep over the text took {}.",
        likelihood(&calm)?,
        seconds(usual)
    ));

    stage.announce("Now the same again, and nothing stays where it is.");
    let mut show = Show::start(flags, place.join("stormy"), &mut stage).await?;
    show.join(&["s3", "s4", "s5"]).await?;
    let busiest = show.busiest();
    show.kill(&busiest).await?;
    let busiest = show.busiest();
    show.freeze(&busiest).await?;
    // One of those that it began on, unless it was among the busiest.
    let first = show.running().into_iter().next();
    show.drain(&first.context("a server is left")?).await?;
    show.until("the training is done", |show| show.swept(flags))
        .await?;
    let left: Vec<String> = show.running();
    ensure!(left.len() == 3, "three servers are left, not {left:?}");
    let stormy = show.end().await?;
    stage.end();
    verdict(flags, &calm, &stormy)
}

fn verdict(flags: &Flags, calm: &Event, stormy: &Event) -> Result<()> {
    let (undisturbed, reached) = (likelihood(calm)?, likelihood(stormy)?);
    let apart = (reached - undisturbed).abs() / undisturbed.abs() * 100.0;
    println!(
        "\nWhile its servers went 2 -> 5 -> 3, one killed and one frozen: log-likelihood {reached:.0}, undisturbed {undisturbed:.0} \
         ({apart:.2} % apart); every count exact, {} calls, {} failed calls.",
        count(stormy.calls),
        stormy.failed_calls
    );
    ensure!(
        stormy.failed_calls == 0,
        "{} calls failed",
        stormy.failed_calls
    );
    ensure!(
        apart <= flags.tolerance,
        "the log-likelihoods are more than {} % apart",
        flags.tolerance
    );
    Ok(())
}

fn likelihood(event: &Event) -> Result<f64> {
    event
        .log_likelihood
        .context("the training has told no log-likelihood")
}

fn seconds(seconds: f64) -> String {
    format!("{:.0} ms", seconds * 1e3)
}

impl<'a> Show<'a> {
    /// Two servers, and a training on them.
    async fn start(flags: &Flags, place: PathBuf, stage: &'a mut Stage) -> Result<Self> {
        let first = ["s1", "s2"];
        let fleet = Fleet::start(&flags.glint, place, &first).await?;
        let client = Client::connect(fleet.url()).await?;
        let began = Instant::now();
        while client.status().await?.servers.len() < first.len() {
            ensure!(began.elapsed() < PATIENCE, "the servers do not register");
            sleep(TICK).await;
        }
        let training = Training::start(&flags.lda, fleet.url(), &flags.corpus, flags.sweeps)?;
        let mut show = Self {
            fleet,
            training,
            client,
            scene: Scene::new(),
            stage,
        };
        for name in first {
            show.scene.fate(name, Fate::Runs);
        }
        show.until("the training has begun", |show| {
            show.scene.told.last.sweep > 0 && show.scene.is_settled()
        })
        .await?;
        show.rest().await?;
        show.training.longest_sweep();
        Ok(show)
    }

    fn swept(&self, flags: &Flags) -> bool {
        self.scene.told.last.sweep >= flags.sweeps
    }

    fn running(&self) -> Vec<String> {
        let servers = self.scene.servers.iter();
        let running = servers.filter(|(_, server)| server.fate == Fate::Runs);
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Which server serves the most partitions.
    fn busiest(&self) -> String {
        let servers = self.scene.servers.iter();
        let running = servers.filter(|(_, server)| server.fate == Fate::Runs);
        let busiest = running.max_by_key(|(_, server)| server.holds);
        busiest.map_or(String::new(), |(name, _)| name.clone())
    }

    /// Looks at everything once, and shows it.
    async fn tick(&mut self) -> Result<()> {
        self.training.check().await?;
        self.fleet.check()?;
        self.scene.look(&self.client, self.training.told()).await?;
        self.stage.draw(&self.scene);
        sleep(TICK).await;
        Ok(())
    }

    async fn rest(&mut self) -> Result<()> {
        let until = Instant::now() + REST;
        while Instant::now() < until {
            self.tick().await?;
        }
        Ok(())
    }

    async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            self.tick().await?;
            if is(self) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "after {PATIENCE:?} still not: {what}"
            );
        }
    }

    /// What the training noticed of an act.
    fn noticed(&self) -> String {
        format!(
            "the longest sweep meanwhile took {}",
            seconds(self.training.longest_sweep())
        )
    }

    async fn join(&mut self, names: &[&str]) -> Result<()> {
        self.stage.announce(&format!(
            "{} join. Partitions move to them while they are read and written.",
            names.join(", ")
        ));
        for name in names {
            self.fleet.join(name)?;
            self.scene.fate(name, Fate::Runs);
        }
        let each = |show: &Self| names.iter().all(|name| show.scene.copies_on(name) > 0);
        self.until("the new servers have their share", |show| {
            each(show) && show.scene.is_settled()
        })
        .await?;
        self.stage.say(&format!(
            "The new ones serve {} of {} partitions; {}.",
            self.scene.held_by(names),
            self.scene.partitions,
            self.noticed()
        ));
        self.rest().await
    }

    async fn kill(&mut self, name: &str) -> Result<()> {
        self.stage.announce(&format!(
            "{name}, which serves {} partitions, is killed for good (kill -9).",
            self.scene.held_by(&[name])
        ));
        self.training.longest_sweep();
        self.fleet.signal(name, "-KILL").await?;
        self.fleet.ended(name, true).await?;
        self.scene.fate(name, Fate::Killed);
        self.until("others serve what it served", |show| {
            show.scene.held_by(&[name]) == 0
        })
        .await?;
        self.stage
            .say("Its followers serve them now. What lacks a copy is copied to others.");
        self.until("every partition has both copies again", |show| {
            show.scene.copies_on(name) == 0 && show.scene.is_settled()
        })
        .await?;
        self.stage.say(&format!(
            "Every partition has both copies again; {}.",
            self.noticed()
        ));
        self.rest().await
    }

    async fn freeze(&mut self, name: &str) -> Result<()> {
        self.stage.announce(&format!(
            "{name}, which serves {} partitions, is frozen (kill -STOP): its connections stay open, and nothing answers.",
            self.scene.held_by(&[name])
        ));
        self.training.longest_sweep();
        self.fleet.signal(name, "-STOP").await?;
        self.scene.fate(name, Fate::Frozen);
        self.until("others serve what it served", |show| {
            show.scene.held_by(&[name]) == 0
        })
        .await?;
        self.stage.say(&format!(
            "Its followers serve what it served; {}.",
            self.noticed()
        ));
        self.rest().await?;
        self.fleet.signal(name, "-CONT").await?;
        self.scene.fate(name, Fate::Runs);
        self.stage.announce(&format!(
            "{name} wakes up and believes that it still serves. Nobody listens to it: it learns better, and follows."
        ));
        self.until("it has copies, and every partition has both", |show| {
            show.scene.copies_on(name) > 0 && show.scene.is_settled()
        })
        .await?;
        self.rest().await
    }

    async fn drain(&mut self, name: &str) -> Result<()> {
        self.stage.announce(&format!(
            "{name} is to go: glint drain {name} moves everything off it."
        ));
        self.training.longest_sweep();
        self.scene.fate(name, Fate::Leaves);
        let drained = tokio::spawn(self.fleet.drain(name));
        while !drained.is_finished() {
            self.tick().await?;
        }
        drained.await??;
        self.stage
            .say(&format!("{name} is empty; {}. It ends.", self.noticed()));
        self.fleet.signal(name, "-TERM").await?;
        self.fleet.ended(name, false).await?;
        self.scene.fate(name, Fate::Gone);
        self.until("every partition has both copies", |show| {
            show.scene.copies_on(name) == 0 && show.scene.is_settled()
        })
        .await?;
        self.stage.say(&format!(
            "{} are left, and the training goes on.",
            self.running().join(", ")
        ));
        self.rest().await
    }

    /// Lets the training come to its end.
    async fn end(mut self) -> Result<Event> {
        self.training.check().await?;
        self.training.finish().await
    }
}
