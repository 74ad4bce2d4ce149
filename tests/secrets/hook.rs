//! What an authorizer is shown, and what it answers.

use fake_cluster::Behaviour;
use serde_json::json;

use crate::common::{Authorizer, Start, cluster, pipes, response, yes};
use crate::leak::{
    assert_clean_answer, assert_clean_page, assert_clean_relay, secret, subprotocol,
};

#[tokio::test]
async fn questions_and_answers_of_every_kind() {
    let cluster = cluster(Behaviour::default()).await;
    let token = secret("answer");
    cluster.set_token("admin", &token);
    let word = secret("question");
    let bearer = subprotocol(&word);
    let headers = [
        ("cookie", format!("session={word}")),
        ("authorization", format!("Bearer {word}")),
        ("x-api-key", word.clone()),
        ("sec-websocket-protocol", bearer),
    ];
    let target = pipes("true") + &format!("&key={word}&access_token={word}");
    for format in ["text", "json"] {
        let authorizer = Authorizer::start().await;
        let url = authorizer.url() + "&key=" + &secret("address");
        let flags = ["--authorize-url", &url, "--authorize-timeout=2s", "--log-level=trace"];
        let more = ["--admin-listen=127.0.0.1:0", "--log-format", format];
        let start = Start { auth: "hook", ..Start::flags(&flags).and(&more) };
        let relay = start.before(&cluster).await;
        let plain = |text: &str| response("200 Yes\r\nContent-Type: text/plain", text);
        let rows = [
            ("L2 yes", yes(&json!({"token": token}).to_string()), 101),
            ("L2 another's token", yes(&json!({"token": secret("wrong")}).to_string()), 401),
            ("L2 odd token", yes(&json!({"token": format!("{token}\u{1}")}).to_string()), 502),
            ("L2 unknown field", yes(&json!({"token": token, token.as_str(): 1}).to_string()), 502),
            ("L2 wrong type", yes(&json!({"token": [token]}).to_string()), 502),
            ("L2 half", yes(&format!("{{\"token\": \"{token}")), 502),
            ("L2 no JSON", yes(&token), 502),
            ("L2 text", plain(&token), 502),
            ("L2 no cluster", yes(&json!({"token": token, "cluster": token}).to_string()), 502),
            (
                "L2 a server's password",
                yes(&json!({"token": token, "server": format!("https://u:{token}@h")}).to_string()),
                502,
            ),
            ("L2 no", response("403 No", &token), 403),
            ("L2 no login", response("401 No", &token), 401),
            ("L2 moved", response(&format!("302 Go\r\nLocation: /?{token}"), &token), 502),
            ("L2 trouble", response("500 Oh", &token), 502),
            ("L2 no HTTP", format!("{token} {token}\r\n\r\n").into_bytes(), 502),
            ("L2 no head", format!("HTTP/1.1 200 Yes\r\n{token}\r\n\r\n").into_bytes(), 502),
        ];
        let count = rows.len();
        for (id, reply, status) in rows {
            authorizer.reply(reply);
            let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let answer = relay.ask(&target, &lines.collect::<String>()).await;
            assert_clean_answer(id, &answer);
            assert_eq!(answer.status, status, "{id}: {answer:?}");
            let headers: Vec<_> = headers.iter().map(|(name, it)| (*name, it.as_str())).collect();
            let mut page = relay.browser(&target, &headers).await;
            page.ended().await;
            assert_clean_page(id, &page);
        }
        authorizer.asked(2 * count).await;
        assert_clean_relay("hook", &relay).await;
    }
}
