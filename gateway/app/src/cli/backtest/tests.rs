//! Backtests of small files, through the real engine.

use std::path::PathBuf;

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    arguments: BacktestArguments,
}

/// A level that rises to a flood, with one wild value and a car that parks for half an hour.
fn levels() -> Vec<(i64, f64)> {
    let level = |minute: i64| match minute {
        60 => 65_535.0,
        100..=130 => 800.0,
        200..=219 => 20.0 + 25.0 * (minute - 199) as f64,
        220..=260 => 520.0 - 12.0 * (minute - 219) as f64,
        _ => 20.0 + (minute % 3) as f64,
    };
    (0..400).map(|minute| (1_782_864_000 + minute * 60, level(minute))).collect()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn csv(header: &str, row: impl Fn(i64, f64) -> String) -> String {
    let rows = levels().into_iter().map(|(at, level)| row(at, level) + "\n");
    std::iter::once(format!("{header}\n")).chain(rows).collect()
}

/// What `kerbside backtest` would print as JSON, or the problems and errors.
fn backtest(source: &Path, more: &[&str]) -> Result<Value, String> {
    backtest_of("json-level", source, more)
}

fn backtest_of(profile: &str, source: &Path, more: &[&str]) -> Result<Value, String> {
    let source = source.display().to_string();
    let command = ["backtest", source.as_str(), "--profile", profile];
    let command = Command::try_parse_from(command.iter().chain(more)).map_err(|error| error.to_string())?;
    let arguments = &command.arguments;
    let zone = Zone::named(&arguments.zone).unwrap();
    let profile = files::find(arguments.profile.as_deref().unwrap()).unwrap().ok();
    let backtest = Backtest { arguments, zone: zone.clone(), profile };
    let told = |error: anyhow::Error| match error.downcast::<RowsError>() {
        Ok(RowsError::Problems(problems)) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
        Ok(other) => format!("{:#}", anyhow::Error::from(other)),
        Err(error) => format!("{error:#}"),
    };
    let sides = backtest.source().and_then(|source| backtest.run(source)).map_err(told)?;
    let truth = arguments.truth.as_deref().map(|path| Truth::read(path, &zone)).transpose().map_err(told)?;
    if arguments.svg.is_some() {
        backtest.report(&sides, truth.as_ref()).map_err(told)?;
    }
    let titles = sides.sides.iter().map(|side| (side.title.clone(), &side.outcome)).collect();
    let report = report::Report { sides: titles, truth: truth.as_ref(), took: sides.took, is_whole: true };
    assert!(report.text().contains("alarms"), "{}", report.text());
    Ok(report.json())
}

fn alarms(report: &Value, side: usize) -> Vec<String> {
    let alarms = report["sides"][side]["alarms"].as_array().unwrap();
    let word = |alarm: &Value, key: &str| alarm[key].as_str().unwrap_or("-").to_owned();
    alarms.iter().map(|alarm| format!("{} {}", word(alarm, "condition"), word(alarm, "severity"))).collect()
}

#[test]
fn the_same_readings_in_any_form_give_the_same_alarms() {
    let files = Files::new();
    let table = files.write("a.csv", &csv("time,level_mm", |at, level| format!("{at},{level}")));
    let expected = backtest(&table, &[]).unwrap();
    assert_eq!(alarms(&expected, 0), ["surging notice", "surcharged major", "overflow_soon notice"]);
    assert_eq!(expected["sides"][0]["cases"].as_array().unwrap().len(), 1);
    let text = csv("Zeit;Pegel", |at, level| format!("{};{level}", Timestamp(at * 1_000)));
    let named = files.write("b.csv", &text);
    let named = backtest(&named, &["--time", "Zeit", "--point", "level_mm=Pegel"]).unwrap();
    let mut rows: Vec<String> =
        levels().iter().map(|(at, level)| format!("drain,device=backtest level_mm={level} {at}000000000")).collect();
    rows.reverse();
    let lines = files.write("c.lp", &rows.join("\n"));
    let lines = backtest(&lines, &[]).unwrap();
    let head =
        "#group,false,false,true,true,false,false,true,true\n,result,table,_start,_stop,_time,_value,_field,device";
    let text = csv(head, |at, level| format!(",,0,,,{},{level},level_mm,backtest", Timestamp(at * 1_000)));
    let annotated = files.write("d.csv", &text);
    let annotated = backtest(&annotated, &[]).unwrap();
    for other in [named, lines, annotated] {
        assert_eq!(other["sides"][0]["alarms"], expected["sides"][0]["alarms"]);
        assert_eq!(other["sides"][0]["flags"], expected["sides"][0]["flags"]);
    }
}

#[test]
fn another_limit_is_shown_beside_the_profile_and_the_picture_has_both() {
    let files = Files::new();
    let table = files.write("a.csv", &csv("time,level_mm", |at, level| format!("{at},{level}")));
    let truth = files.write("t.csv", "from,until,condition\n2026-07-01T03:20:00Z,2026-07-01T04:20:00Z,surcharged\n");
    let svg = files.0.path().join("a.svg");
    let options = [
        "--set",
        "detectors.surcharged.1.raise=600",
        "--set",
        "detectors.surcharged.2.raise=600",
        "--svg",
        svg.to_str().unwrap(),
        "--truth",
        truth.to_str().unwrap(),
    ];
    let report = backtest(&table, &options).unwrap();
    assert_eq!(alarms(&report, 0), ["surging notice", "surcharged major", "overflow_soon notice"]);
    assert_eq!(alarms(&report, 1), ["surging notice", "surcharged notice", "overflow_soon notice"]);
    assert_eq!(report["sides"][1]["cases"].as_array().unwrap().len(), 0);
    let score = &report["sides"][0]["truth"];
    assert_eq!((score["found"].as_u64(), score["false_alarms"].as_u64()), (Some(1), Some(0)), "{score}");
    let picture = std::fs::read_to_string(svg).unwrap();
    for words in ["排水管满溢", "detectors.surcharged.1.raise=600", "≥ 400", "07-01 "] {
        assert!(picture.contains(words), "{words} is not in the picture");
    }
    assert_eq!(picture.matches("<svg").count(), 1);
}

#[test]
fn mistakes_of_a_file_are_told_with_line_value_and_mend() {
    let files = Files::new();
    let check = |name: &str, text: &str, more: &[&str], words: &[&str]| {
        let told = backtest(&files.write(name, text), more).unwrap_err();
        for words in words {
            assert!(told.contains(words), "{words}: {told}");
        }
    };
    check(
        "a.csv",
        "time,level_mm\n1782864000,12\nnoon,1x\n",
        &[],
        &["a.csv:3: time = \"noon\"", "level_mm = \"1x\"", "number in mm"],
    );
    check("b.csv", "when,level_mm\n1,2\n", &[], &["no column of times", "--time COLUMN", "when, level_mm"]);
    check("c.csv", "time,depth\n1,2\n", &[], &["no column is called like a point", "--point level_mm=COLUMN"]);
    check("d.csv", "time,depth\n1,2\n", &["--point", "levl_mm=depth"], &["did you mean level_mm?"]);
    check(
        "e.csv",
        "time,level_mm\n1782864000,1\n",
        &["--set", "detectors.surcharged.raise=5"],
        &["rules find surcharged", "say which"],
    );
    check(
        "f.csv",
        "time,level_mm\n1782864000,1\n",
        &["--set", "detectors.surcharged.0.raise=5"],
        &["set `clear` as well"],
    );
    check("g.csv", "time,level_mm\n1782864000,1\n", &["--set", "detectors.floded.raise=5"], &["no rule finds floded"]);
    check("h.csv", "time,level_mm\n1782864000,1\n", &["--set", "surcharged=5"], &["write such as detectors."]);
    check("i.lp", "drain level_mm=1\n", &[], &["i.lp:1", "not a line of line protocol"]);
    check("j.csv", "time,level_mm\n", &[], &["no reading"]);
}

#[test]
fn rows_of_several_devices_in_any_order_are_put_in_the_order_of_time() {
    let files = Files::new();
    let mut rows: Vec<String> = levels().iter().map(|(at, level)| format!("S1,{at},{level}")).collect();
    rows.extend(levels().iter().map(|(at, _)| format!("S2,{at},15")));
    let table = files.write("a.csv", &format!("device,time,level_mm\n{}\n", rows.join("\n")));
    let report = backtest(&table, &[]).unwrap();
    assert_eq!(report["sides"][0]["devices"], 2);
    assert_eq!(alarms(&report, 0), ["surging notice", "surcharged major", "overflow_soon notice"]);
    let only = backtest(&table, &["--device", "S2"]).unwrap();
    assert_eq!(alarms(&only, 0), Vec::<String>::new());
}

/// A database that answers one question with `answer`; gives back what it was asked.
async fn stand_in(status: &'static str, answer: String) -> (String, tokio::task::JoinHandle<String>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 4_096];
        // The question ends with its last field.
        while !String::from_utf8_lossy(&request).contains("DL-1") {
            let read = stream.read(&mut chunk).await.unwrap();
            request.extend_from_slice(&chunk[..read]);
        }
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (url, asked)
}

fn question(url: &str) -> influx::Question {
    influx::Question {
        url: url.to_owned(),
        org: "city".to_owned(),
        bucket: "street".to_owned(),
        token: Some("t0ken".to_owned()),
        device: Some("DL-1".to_owned()),
        since: Timestamp(1_782_864_000_000),
        until: Timestamp(1_782_950_400_000),
    }
}

#[tokio::test]
async fn a_database_is_asked_for_the_points_of_the_profile_and_no_more() {
    kerbside_runtime::tls::install_crypto_provider();
    let profile = files::find("json-level").unwrap().unwrap();
    let answer = ",result,table,_time,_value,_field,device\r\n,,0,2026-07-01T00:00:00Z,12.5,level_mm,DL-1\r\n\
                  ,,0,2026-07-01T00:00:00Z,3.6,battery_v,DL-1\r\n\r\n";
    let (url, asked) = stand_in("200 OK", answer.to_owned()).await;
    let bytes = influx::ask(&question(&url), &profile).await.unwrap();
    let request = asked.await.unwrap();
    for words in
        ["POST /api/v2/query?org=city ", "Token t0ken", "2026-07-01T00:00:00.000Z", "r._measurement == \"drain\""]
    {
        assert!(request.to_lowercase().contains(&words.to_lowercase()), "{words}: {request}");
    }
    let zone = Zone::named("Asia/Shanghai").unwrap();
    let mut devices = Devices::default();
    let rows = influx::annotated_csv("answer", &bytes, &profile, &zone, &mut devices).unwrap();
    let rows = rows::in_order(rows);
    assert_eq!((rows.len(), rows[0].slots.len(), devices.ids()), (1, 2, &["DL-1".to_owned()][..]));

    let (url, _) = stand_in("401 Unauthorized", "unauthorized access".to_owned()).await;
    let error = format!("{:#}", influx::ask(&question(&url), &profile).await.unwrap_err());
    assert!(error.contains("401") && error.contains("unauthorized access"), "{error}");
}

#[test]
fn each_reading_is_written_once_with_the_flag_that_it_has_in_the_end() {
    let files = Files::new();
    let inside = ["20", "21", "60", "22", "700", "", "23"];
    let rows: String =
        (0_i64..).zip(inside).map(|(number, value)| format!("2026-07-01T{number:02}:00:00Z,{value}\n")).collect();
    let source = files.write("pole.csv", &format!("time,temperature_c\n{rows}"));
    let table = files.0.path().join("flags.csv");
    let told = backtest_of("json-pole", &source, &["--flags", &table.display().to_string()]).unwrap();
    let written = std::fs::read_to_string(&table).unwrap();
    let flags: Vec<String> = written
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            format!("{} {} {} {}", cells[0].get(11..13).unwrap(), cells[3], cells[4], cells[5])
        })
        .collect();
    let settled: Vec<&String> = flags.iter().filter(|row| row.starts_with("02")).collect();
    assert_eq!(settled, ["02 60.0 3 spike"], "{written}");
    assert!(flags.iter().any(|row| row.starts_with("04") && row.contains(" 4 range")), "{written}");
    let counted: u64 =
        told["sides"][0]["flags"].as_array().unwrap().iter().map(|of| of["readings"].as_u64().unwrap()).sum();
    assert_eq!(counted, flags.len() as u64, "{told}");
}
