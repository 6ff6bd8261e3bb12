"""A libtorrent session's DHT node, told on standard input what to do, a line each; see `mainline.rs`."""

import hashlib
import sys
import time

import libtorrent as lt

PATIENCE = 20


def say(*words):
    print(*words, flush=True)


def expanded(seed):
    """The 64 bytes that libtorrent signs with (RFC 8032, section 5.1.5)."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 248
    key[31] &= 63
    key[31] |= 64
    return bytes(key)


def wait_for(session, kind, ours=lambda alert: True):
    """The next alert of a kind; None if it takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            if isinstance(alert, kind) and ours(alert):
                return alert
    return None


def main():
    session = lt.session({
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": True,
        "dht_bootstrap_nodes": sys.argv[1] if len(sys.argv) > 1 else "",
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
        "dht_block_ratelimit": 1000,
        "dht_upload_rate_limit": 1000000,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.all_categories,
    })
    end = time.monotonic() + PATIENCE
    while session.listen_port() == 0 and time.monotonic() < end:
        session.wait_for_alert(100)
    say("port", session.listen_port())
    for line in sys.stdin:
        command, *words = line.split()
        if command == "announce":
            session.dht_announce(lt.sha1_hash(bytes.fromhex(words[0])), int(words[1]), 0)
            say("announced")
        elif command == "peers":
            wanted = lt.sha1_hash(bytes.fromhex(words[0]))
            session.dht_get_peers(wanted)
            # Each node's reply is told as it comes; the first that names somebody will do.
            alert = wait_for(
                session, lt.dht_get_peers_reply_alert, lambda a: a.info_hash == wanted and a.num_peers() > 0
            )
            say("peers", *(f"{ip}:{port}" for ip, port in (alert.peers() if alert else [])))
        elif command == "put_immutable":
            target = session.dht_put_immutable_item(words[0].encode())
            alert = wait_for(session, lt.dht_put_alert, lambda a: a.target == target)
            say("put", target, alert.num_success if alert else 0)
        elif command == "get_immutable":
            session.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(words[0])))
            alert = wait_for(session, lt.dht_immutable_item_alert)
            say("value", alert.item.decode() if alert and alert.item else "")
        elif command == "put_mutable":
            seed, public, value, salt = words
            seed, public = bytes.fromhex(seed), bytes.fromhex(public)
            session.dht_put_mutable_item(expanded(seed), public, value.encode(), salt.encode())
            alert = wait_for(session, lt.dht_put_alert)
            say("put", alert.seq if alert else -1, alert.num_success if alert else 0)
        elif command == "get_mutable":
            public, salt = words
            session.dht_get_mutable_item(bytes.fromhex(public), salt.encode())
            # What it finds on the way is told too; `authoritative` is the newest of all.
            alert = wait_for(session, lt.dht_mutable_item_alert, lambda a: a.authoritative)
            item = alert.item if alert else None
            say("value", alert.seq if alert else -1, item.decode() if item else "")


main()
