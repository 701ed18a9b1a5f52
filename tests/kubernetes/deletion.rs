//! A `ParameterServer` is deleted.

use glint_tests_kubernetes::{
    installation::scale,
    stories::{Space, eventually, run},
    training::Training,
    turns,
};

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn deleted_with_retention_retain_the_values_are_there_again_in_another_of_the_name() {
    let space = Space::new("retain");
    let spec = "{servers: 2, storage: {size: 1Gi}}";
    space.parameter_server("lda", spec);
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "sync");
    training.goes_on();
    // The Job waits while there are no servers: it is the judge of what comes back.
    space.kubectl(&["delete", "pserver", "lda", "--wait"]);
    eventually("the servers are gone", 120, || {
        space
            .find(&["statefulset", "lda-server"])
            .is_none()
            .then_some(())
    });
    eventually("their pods, too", 120, || {
        space.find(&["pod", "lda-server-0"]).is_none().then_some(())
    });
    assert_eq!(space.claims(), 3, "two servers and the master");
    space.parameter_server("lda", spec);
    space.ready("lda", 2);
    training.goes_on();
    training.finish();
}

/// The object `lda` has a finalizer of somebody else's, until this is dropped: however a test ends, its namespace and the
/// definition could not go before.
struct Held<'a>(&'a Space);

impl<'a> Held<'a> {
    fn by_others(space: &'a Space) -> Self {
        let held = Self(space);
        held.finalizers(r#"["example.com/first"]"#)
            .expect("a finalizer");
        held
    }

    fn finalizers(&self, list: &str) -> Result<String, String> {
        let patch = format!(r#"{{"metadata": {{"finalizers": {list}}}}}"#);
        let of = ["-n", self.0.name(), "patch", "pserver", "lda"];
        let arguments = [&of[..], &["--type=merge", "-p", &patch]].concat();
        run("kubectl", &arguments, "")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.finalizers("[]") {
            eprintln!("the finalizer could not be taken away: {error}");
        }
    }
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn deleted_with_retention_delete_nothing_is_left() {
    let space = Space::new("delete");
    space.parameter_server(
        "lda",
        "{servers: 2, storage: {size: 1Gi, retention: Delete}}",
    );
    space.ready("lda", 2);
    assert_eq!(space.claims(), 3);
    let held = Held::by_others(&space);
    let before = space.look("lda")["status"].clone();
    space.kubectl(&["delete", "pserver", "lda", "--wait=false"]);
    eventually("its phase says so, and all else is as before", 60, || {
        let status = space.look("lda")["status"].clone();
        (status["phase"] == "Deleting" && status["servers"] == before["servers"]).then_some(())
    });
    drop(held);
    space.nothing_is_left(120);
    assert!(space.find(&["pserver", "lda"]).is_none());
    eventually("no volume is claimed", 60, || {
        (space.claims() == 0).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn deleted_while_the_operator_is_away_it_goes_all_the_same() {
    turns::alone();
    let space = Space::new("away");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    scale(0);
    space.kubectl(&["delete", "pserver", "lda", "--wait", "--timeout=30s"]);
    space.nothing_is_left(120);
    scale(1);
}
