"""A hub that the scripts start, kill and start again on the same data, and the calls that they make to it."""
import atexit, hashlib, http.client, json, os, re, select, signal, subprocess, time

START_SECONDS_MAX = 30


class Refused(Exception):
    """The hub ended instead of starting. The text has its exit code and what it wrote."""


class Hub:
    def __init__(self, binary, data, settings=(), environment=None):
        self.data, self.process, self.port, self.token = data, None, 0, ""
        flags = {"listen": "127.0.0.1:0", "cores": "2", "tls.mode": "off", "limits.max_connections": "4000",
                 "limits.rate_per_minute": "0", "drain.window": "0s", **dict(settings)}
        self.command = [binary, "serve"] + [f"--set={key}={value}" for key, value in flags.items()]
        self.tls = flags["tls.mode"] != "off"
        self.environment = environment or {}
        self.log_path = data + ".log"
        # A script that fails leaves no hub behind.
        atexit.register(self.kill)

    def start(self):
        """Starts it and waits until it listens."""
        environment = {**os.environ, "GATECAST_DATA": self.data, "NO_COLOR": "1", **self.environment}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, env=environment, stdout=subprocess.PIPE, stderr=log)
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS_MAX)
        line = self.process.stdout.readline().decode() if readable else ""
        found = re.search(r"://[^:]+:(\d+)", line)
        if not found:
            code = self.process.wait(5) if line == "" and readable else None
            self.kill()
            raise Refused(f"exit code {code}: {self.log()[-600:]}")
        self.port = int(found.group(1))
        with open(os.path.join(self.data, "admin-token")) as file:
            self.token = file.read().strip()
        return self

    def start_and_kill(self, seconds):
        """Starts it and kills it after so many seconds, wherever it is by then."""
        environment = {**os.environ, "GATECAST_DATA": self.data, **self.environment}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        time.sleep(seconds)
        self.kill()

    def kill(self):
        self.port = 0
        if self.process:
            self.process.kill()
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
            self.process = None

    def stop(self):
        """Ends it in order; returns the exit code."""
        self.port = 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process.stdout.close()
        self.process = None
        return code

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def connection(self, timeout=15):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=insecure())

    def call(self, method, path, body=None, connection=None):
        """The status and the parsed answer (a list of rows for a batch)."""
        own = connection or self.connection()
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        own.request(method, path, text, {"Authorization": "Bearer " + self.token})
        answer = own.getresponse()
        content = answer.read().decode()
        if connection is None:
            own.close()
        rows = [json.loads(line) for line in content.splitlines()] if content else [None]
        return answer.status, rows if path == "/api/v1/events" else rows[0]

    def register(self, name, **fields):
        """Creates a gateway whose key is its name; returns its id."""
        status, gateway = self.call("POST", "/api/v1/gateways", {"name": name, **fields})
        assert status == 201, (status, gateway)
        digest = hashlib.sha256(name.encode()).hexdigest()
        status, answer = self.call("POST", f"/api/v1/gateways/{gateway['id']}/tokens", {"sha256": digest})
        assert status == 201, (status, answer)
        return gateway["id"]

    def ready(self):
        """The status, and what `/ready` calls the hub and why."""
        status, answer = self.call("GET", "/ready")
        return status, answer.get("status"), answer.get("reason", "")

    def metric(self, name):
        own = self.connection()
        own.request("GET", "/metrics", None, {"Authorization": "Bearer " + self.token})
        text = own.getresponse().read().decode()
        own.close()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? ([\d.e+-]+)$", text, re.M))


def insecure():
    import ssl
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def wait_until(what, condition, seconds=15):
    """Waits for a condition; returns how long it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began
