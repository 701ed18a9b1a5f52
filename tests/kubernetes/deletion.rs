//! A `ParameterServer` is deleted.

use glint_tests_kubernetes::{
    installation::scale,
    stories::{Space, eventually},
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
    // Something else wants to do its work first, and holds the object.
    let finalizers = |list: &str| {
        let patch = format!(r#"{{"metadata": {{"finalizers": {list}}}}}"#);
        space.kubectl(&["patch", "pserver", "lda", "--type=merge", "-p", &patch]);
    };
    finalizers(r#"["example.com/first"]"#);
    let before = space.look("lda")["status"].clone();
    space.kubectl(&["delete", "pserver", "lda", "--wait=false"]);
    eventually("its phase says so, and all else is as before", 60, || {
        let status = space.look("lda")["status"].clone();
        (status["phase"] == "Deleting" && status["servers"] == before["servers"]).then_some(())
    });
    finalizers("[]");
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
