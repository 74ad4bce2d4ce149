//! The proof that the cluster is honest: the client side of recordings of a real cluster
//! (Kubernetes 1.36.2), and what came back then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::format_push_string,
    dead_code,
    missing_docs,
    non_snake_case,
    unreachable_pub,
    reason = "a test that cannot go on should stop"
)]

mod replay;

/// One test for each recording.
macro_rules! replays {
    ($module:ident, $mode:ident: $($name:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    crate::replay::replay(stringify!($name), fake_cluster::Mode::$mode).await;
                }
            )*
        }
    };
}

replays! { kubelet_mode, Kubelet:
    apiserver_sigkill_tty
    background_child_keeps_tty
    bad_container
    base64_channel
    browser_token_subprotocol
    client_abort_nontty_sleep
    client_abort_tty_sleep
    client_channel9
    client_channel_byte_only
    client_close_nontty_cat
    client_close_nontty_sleep
    client_close_nontty_writer
    client_close_signal_bad
    client_close_signal_channel9
    client_close_signal_long
    client_close_signal_resize
    client_close_signal_stdout
    client_close_stdin_tty
    client_close_tty_shell
    client_close_tty_sleep
    client_close_tty_writer
    client_data_after_stdin_close
    client_data_on_channel1
    client_data_on_channel3
    client_empty_frame
    client_fragmented_message
    client_resize_malformed
    client_resize_variants
    client_text_frame
    client_text_frame_plain
    client_unmasked_frame
    command_not_found
    command_not_found_tty
    compression_offered
    execer_allowed
    execer_missing_pod
    exit_code_then_output_order
    forbidden
    forbidden_missing_pod
    killed_by_signal
    killed_by_sigterm
    missing_namespace
    missing_pod
    new_session_while_kubelet_down
    no_command
    no_container_param
    no_streams
    no_subprotocol
    nontty_stdin_halfclose
    nontty_stdout_stderr
    only_v4
    origin_header
    ping_pong
    plain_get
    plain_post
    pod_succeeded
    rbac_create_only
    rbac_get_only
    resize_before_first_output_then_fast_exit
    resize_once_to_nontty
    resize_to_nontty
    resize_wedge_after_overflow
    stderr_large
    stdin_frame_16MiB
    stdin_frame_1MiB
    stdin_frame_32KiB
    stdin_frame_64KiB
    stdin_sent_without_stdin_param
    tty_exit3
    tty_resize_exit0
    tty_with_stderr
    tty_without_stdin
    unauthenticated_bad_token
    unauthenticated_no_token
    unknown_and_v5
    unknown_subprotocol
    v4_and_v5
    v5_and_v4
}

replays! { api_server_mode, ApiServer:
    bad_container
    client_abort_tty_sleep
    client_close_nontty_cat
    client_close_signal_bad
    client_close_stdin_tty
    client_close_tty_shell
    client_fragmented_message
    client_resize_malformed
    client_resize_variants
    client_text_frame
    client_unmasked_frame
    command_not_found
    command_not_found_tty
    first_bytes_before_101
    forbidden
    killed_by_signal
    missing_pod
    new_session_while_kubelet_down
    no_command
    no_container_param
    no_streams
    nontty_stdin_halfclose
    nontty_stdout_stderr
    only_v4
    ping_pong
    plain_get
    pod_succeeded
    resize_to_nontty
    resize_wedge_after_overflow
    stdin_frame_1MiB
    tty_exit3
    tty_resize_exit0
    unauthenticated_bad_token
    unknown_subprotocol
    v4_and_v5
}
