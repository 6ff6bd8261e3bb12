//! `fs` as a user runs it: many processes, files in, processes killed, files out.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_types, reason = "what is waited for has a bound")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Folder, Running, number, same};

fn fs(args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_fs")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn node(args: &[&str]) -> (Running, String) {
    let running = Running::start(Command::new(env!("CARGO_BIN_EXE_fs")).arg("node").args(args));
    let contact = running.says("contact");
    (running, contact)
}

/// Files are put in all three ways through the first nodes, which are killed with `kill -9`: they come out through the others as
/// they were, also those that were sealed, and as far as there are lists they are in them.
#[test]
fn files_survive_the_death_of_processes_in_all_three_ways() {
    let processes = number("P2P_PROCESSES", 8);
    let folder = Folder::new("ways");
    let mut nodes = vec![node(&[])];
    for _ in 1..processes {
        let first = nodes[0].1.clone();
        nodes.push(node(&["--join", &first]));
    }
    let me = folder.text("me");
    let put = |through: &str, system: &str, more: &[&str], file: &str| {
        let mut args = vec!["put", "--system", system, "--join", through, "--data", &me];
        args.extend(more);
        args.push(file);
        fs(&args).map(|said| said.strip_prefix("name: ").unwrap().to_owned())
    };
    let [large, small] = [("large", 3_000_000), ("small", 700_000)].map(|(name, size)| {
        folder.noise(name, size);
        folder.text(name)
    });
    let (first, second) = (nodes[0].1.clone(), nodes[1].1.clone());
    let mut names = vec![
        ("cfs", put(&first, "cfs", &["--name", "music/large"], &large).unwrap(), &large, false),
        ("past", put(&first, "past", &[], &small).unwrap(), &small, false),
        ("archive", put(&first, "archive", &["--name", "notes"], &small).unwrap(), &small, false),
        ("cfs", put(&second, "cfs", &["--encrypt", "--name", "secret"], &small).unwrap(), &small, true),
    ];
    let newest = put(&second, "archive", &["--name", "notes"], &large).unwrap();
    names[2].1.push_str("@1");
    names.push(("archive", newest.clone(), &large, false));
    let too_long = put(&first, "past", &[], &large).unwrap_err();
    assert!(too_long.contains("--system cfs"), "{too_long}");

    nodes.drain(..processes / 4).for_each(drop);
    let through = |i: usize| nodes[i % nodes.len()].1.as_str();
    let until = Instant::now() + Duration::from_secs(120);
    for (i, (system, name, file, sealed)) in names.iter().enumerate() {
        let copy = folder.text("copy");
        let mut args = vec!["get", "--system", system, "--join", through(i), "--data", &me];
        args.extend(sealed.then_some("--encrypt"));
        args.extend([name.as_str(), &copy]);
        // The others are still finding out who has died.
        while let Err(why) = fs(&args) {
            assert!(Instant::now() < until, "{system} {name}: {why}");
        }
        assert!(same(&copy, file), "{system} {name}");
    }
    // Whoever has not the key gets what was sealed, and does not take it for the file.
    let (_, sealed, _, _) = &names[3];
    let other = folder.text("other");
    let copy = folder.text("sealed");
    fs(&["get", "--join", through(0), sealed, &copy]).unwrap();
    assert!(!same(&copy, &small));
    let refused =
        fs(&["get", "--join", through(0), "--data", &other, "--encrypt", sealed, &folder.text("x")])
            .unwrap_err();
    assert!(refused.contains("another key"), "{refused}");
    assert!(!folder.join("x").exists(), "nothing is left of what is not genuine");

    let owner = newest.split_once('/').unwrap().0;
    let list = |system: &str, name: &str| fs(&["ls", "--system", system, "--join", through(1), name]);
    let words = |list: String| list.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    assert_eq!(words(list("cfs", owner).unwrap())[0], "music/");
    assert_eq!(words(list("cfs", &format!("{owner}/music")).unwrap()), ["3000000", "large"]);
    assert_eq!(words(list("archive", &newest).unwrap()), ["700000", "notes@1", "3000000", "notes@2"]);
    assert!(list("past", owner).unwrap_err().contains("no directories"));
}

#[test]
fn what_is_wrong_is_said() {
    let folder = Folder::new("wrong");
    folder.noise("file", 100);
    let file = folder.text("file");
    let nobody = fs(&["put", "--data", &folder.text("me"), &file]).unwrap_err();
    assert!(nobody.contains("--join"), "{nobody}");
    assert!(fs(&["get", "ada/x", &folder.text("x")]).unwrap_err().contains("base32"));
    let (_running, contact) = node(&[]);
    let nowhere =
        fs(&["put", "--join", &contact, "--data", &folder.text("me"), &folder.text("none")]).unwrap_err();
    assert!(nowhere.contains("none"), "{nowhere}");
    assert!(
        fs(&["get", "--join", &contact, "nothing", &folder.text("x")]).unwrap_err().contains("OWNER/NAME")
    );
    assert!(fs(&["put", "--join", &contact, "--encrypt", "x"]).unwrap_err().contains("--data"));
    let name = fs(&["put", "--join", &contact, "--data", &folder.text("me"), &file]).unwrap();
    let name = name.strip_prefix("name: ").unwrap();
    let missing = fs(&["get", "--join", &contact, &format!("{name}x"), &folder.text("x")]).unwrap_err();
    assert!(missing.contains("leads nowhere"), "{missing}");
    for system in ["past", "archive"] {
        let missing =
            fs(&["get", "--system", system, "--join", &contact, name, &folder.text("x")]).unwrap_err();
        assert!(missing.contains("not found"), "{system}: {missing}");
    }
    // What is already there is not lost when the next try fails.
    std::fs::write(folder.join("y"), "there").unwrap();
    assert!(fs(&["get", "--system", "past", "--join", &contact, name, &folder.text("y")]).is_err());
    assert_eq!(std::fs::read(folder.join("y")).unwrap(), b"there");
}
