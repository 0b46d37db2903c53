//! Programs in containers: what comes back is whole, or it is an error.

use std::time::Duration;

use pgmove::{
    error::Fault as _,
    kubernetes::{Exec, ExecError, ExecOutput, PodPort, exec},
};

use super::stand_in::{Loss, StandIn};

async fn run(stand_in: &StandIn, command: &[&str], input: &[u8]) -> Result<ExecOutput, ExecError> {
    let at = PodPort {
        namespace: "media".into(),
        pod: "new-1".into(),
        uid: String::new(),
        container: "postgres".into(),
        port: 5432,
    };
    exec(&stand_in.reach().server().await, &Exec { at: &at, command, input, stall: Duration::from_secs(10) })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programs_output_is_whole_or_an_error() {
    let stand_in = StandIn::start(&[("new-1", 1)]);
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(3_000_000).collect();
    let output = run(&stand_in, &["cat"], &input).await.expect("whole");
    assert!(output.stdout == input && output.code == 0 && output.stderr.is_empty(), "{}", output.stderr);
    // It need not read everything, nor succeed, nor end its messages with a line break.
    let script = "head -c 3; printf 'pg_dump: error: no \\047luck\\047' >&2; exit 3";
    let output = run(&stand_in, &["sh", "-c", script], &input).await.expect("whole");
    let expected =
        ExecOutput { stdout: input[..3].to_vec(), stderr: "pg_dump: error: no 'luck'".into(), code: 3 };
    assert_eq!(output, expected);
    assert_eq!(run(&stand_in, &["no such program"], b"").await.expect("whole").code, 127);
    assert_eq!(
        run(&stand_in, &["printf", "%s|", "a b", "", "$HOME"], b"").await.expect("whole").stdout,
        b"a b||$HOME|"
    );

    for (loss, expected) in [
        (Loss { output: 2_999_999, ..Loss::NONE }, "the 2999999 bytes that came are not what it wrote"),
        (Loss { input: 32_768, ..Loss::NONE }, "it did not get the 3000000 bytes that were sent"),
        (Loss { messages: 100, ..Loss::NONE }, "the end of its messages is missing"),
        (Loss { messages: 0, is_cut: true, ..Loss::NONE }, "in pod new-1 was cut: it was closed"),
    ] {
        stand_in.lose(loss);
        let error = run(&stand_in, &["cat"], &input).await.expect_err("bytes are lost");
        assert!(error.to_string().contains(expected) && error.is_retryable(), "{loss:?}: {error}");
    }
    stand_in.lose(Loss::NONE);
    let error = run(&stand_in, &["sleep", "60"], b"").await.expect_err("it is stopped");
    assert!(matches!(error, ExecError::Stalled { .. }), "{error}");
}
