//! The examples of `examples/kubernetes`, as they are.

use std::fs;

use glint_tests_kubernetes::stories::{Space, eventually, note, project, run};

fn example(name: &str) -> String {
    let path = project("examples/kubernetes").join(name);
    fs::read_to_string(path).expect("the example")
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn two_pods_train_lda_on_three_servers_as_the_page_says_and_topics_come_out() {
    let space = Space::new("news");
    // Fewer sweeps: what is tried is that it works, and not how good the topics are.
    let (all, few) = ("--sweeps=300", "--sweeps=20");
    let example = example("lda.yaml");
    assert_eq!(example.matches(all).count(), 1, "{example}");
    space
        .try_apply(&example.replace(all, few))
        .expect("the example");
    let job = || space.find(&["job", "lda-training"]).expect("the Job");
    eventually("both pods run", 120, || {
        (job()["status"]["ready"] == 2).then_some(())
    });
    let job = eventually("the Job is done", 240, || {
        let job = job();
        assert!(job["status"]["failed"].as_i64().unwrap_or(0) == 0, "{job}");
        (job["status"]["succeeded"] == 2).then_some(job)
    });
    assert_eq!(job["spec"]["completionMode"], "Indexed");
    // As docs/kubernetes.md says.
    let first = "--selector=job-name=lda-training,batch.kubernetes.io/job-completion-index=0";
    let said = space.kubectl(&["logs", "--tail=-1", first]);
    let topics = said.lines().filter(|line| line.starts_with("topic "));
    assert_eq!(topics.count(), 20, "{said}");
    note(said.lines().last().unwrap_or_default());
    let status = space.look("news")["status"].clone();
    assert_eq!(status["readyServers"], 3, "{status}");
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn the_sample_with_every_field_is_valid_to_the_last_one() {
    let space = Space::new("sample");
    let asked = [
        "-n",
        space.name(),
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let sample = example("everything.yaml");
    run("kubectl", &asked, &sample).expect("it is valid");
    // A check that lets everything pass would be none.
    let wrong = sample.replace("\n  onShutdown:", "\n  onShutDown:");
    assert_ne!(wrong, sample);
    let said = run("kubectl", &asked, &wrong).expect_err("no such field");
    assert!(said.contains("onShutDown"), "{said}");
}
