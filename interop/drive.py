"""libtorrent, driven by lines of JSON: one command a line comes in, one answer a line goes out.

Everything is on 127.0.0.1; its local discovery and port mapping are off, and its DHT where it is given no node.
"""

import json
import sys
import time

import libtorrent as lt


def session(encryption="off", level="rc4", utp="off", dht=None):
    policy = {"off": lt.enc_policy.disabled, "preferred": lt.enc_policy.enabled, "required": lt.enc_policy.forced}[encryption]
    return lt.session({
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": dht is not None,
        "dht_bootstrap_nodes": dht or "",
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "allow_multiple_connections_per_ip": True,
        "enable_outgoing_utp": utp != "off",
        "enable_incoming_utp": utp != "off",
        "enable_outgoing_tcp": utp != "only",
        "enable_incoming_tcp": utp != "only",
        "in_enc_policy": int(policy),
        "out_enc_policy": int(policy),
        # What follows the handshake; the handshake is encrypted in any case.
        "allowed_enc_level": int({"rc4": lt.enc_level.rc4, "plain": lt.enc_level.plaintext, "both": lt.enc_level.both}[level]),
        "alert_mask": int(lt.alert.category_t.all_categories),
        "allow_i2p_mixed": True,
    })


def described(path):
    info = lt.torrent_info(path)
    hashes = info.info_hashes()
    files = info.layout()
    names = [
        {"path": files.file_path(i), "size": files.file_size(i)}
        for i in range(files.num_files())
        if not files.file_flags(i) & lt.file_flags_t.flag_pad_file
    ]
    return {
        "v1": str(hashes.v1) if hashes.has_v1() else None,
        "v2": str(hashes.v2) if hashes.has_v2() else None,
        "pieces": info.num_pieces(),
        "piece_length": info.piece_length(),
        "files": names,
    }


def created(path, folder, version, piece_length):
    """A torrent that libtorrent makes of what lies there."""
    files = lt.list_files(path)
    flags = {"v1": lt.create_torrent.v1_only, "v2": lt.create_torrent.v2_only, "hybrid": 0}[version]
    torrent = lt.create_torrent(files, piece_length, flags)
    lt.set_piece_hashes(torrent, folder)
    return lt.bencode(torrent.generate()).hex()


class Peer:
    def __init__(self, **how):
        self.session = session(**how)
        self.dht = how.get("dht")
        self.handle = None
        self.log = []

    def alerts(self):
        for alert in self.session.pop_alerts():
            if len(self.log) < 400:
                self.log.append(f"{type(alert).__name__}: {alert.message()}")
            yield alert

    def add(self, torrent=None, magnet=None, folder=".", seed=False, trackers=()):
        if magnet:
            params = lt.parse_magnet_uri(magnet)
        else:
            params = lt.add_torrent_params()
            params.ti = lt.torrent_info(torrent)
        params.save_path = folder
        params.trackers = params.trackers + list(trackers)
        if seed:
            params.flags |= lt.torrent_flags.seed_mode
        self.handle = self.session.add_torrent(params)
        # It listens, and is past looking at its files, a moment later.
        end = time.monotonic() + 10
        while time.monotonic() < end:
            self.session.wait_for_alert(100)
            list(self.alerts())
            looking = self.handle.status().state in (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data)
            if self.session.listen_port() and not looking:
                return {"port": self.session.listen_port()}
        return {"error": "it does not listen", "log": self.log}

    def connect(self, port):
        self.handle.connect_peer(("127.0.0.1", port))
        return {}

    def announce(self):
        """To the DHT, which it may not have known when the torrent was added."""
        self.handle.force_dht_announce()
        return {}

    def wait(self, seconds):
        """Until all is there and written."""
        end = time.monotonic() + seconds
        asked = False
        while time.monotonic() < end:
            self.session.wait_for_alert(200)
            if self.dht:
                self.announce()
            for alert in self.alerts():
                if isinstance(alert, lt.cache_flushed_alert):
                    return {"done": True}
            if not asked and self.handle.status().is_seeding:
                self.handle.flush_cache()
                asked = True
        return {"done": False, "progress": self.handle.status().progress, "log": self.log}

    def peers(self):
        list(self.alerts())
        return {"peers": [[p.ip[0], p.ip[1], p.client.decode("utf-8", "replace")] for p in self.handle.get_peer_info()]}

    def meets(self, client, seconds):
        """Until it is connected to such a program, whoever has made the connection."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.session.wait_for_alert(200)
            list(self.alerts())
            if any(p.client.decode("utf-8", "replace").startswith(client) for p in self.handle.get_peer_info()):
                return {"met": True}
        return {"met": False, "log": self.log}


def main():
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        if name == "describe":
            answer = described(**command)
        elif name == "create":
            answer = {"torrent": created(**command)}
        elif name == "quit":
            break
        elif name == "start":
            peer = Peer(**command)
            answer = {}
        else:
            peer = peer or Peer()
            answer = getattr(peer, name)(**command)
        print(json.dumps(answer), flush=True)


main()
