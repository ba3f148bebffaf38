package gatecast.interop;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** One open connection. The library's threads fill in what has come over it. */
abstract class Connection {
    private static final long PATIENCE_SECONDS = 5;

    final BlockingQueue<String> messages = new LinkedBlockingQueue<>();
    final BlockingQueue<String> pongs = new LinkedBlockingQueue<>();
    final AtomicInteger pings = new AtomicInteger();
    final CompletableFuture<Closed> closed = new CompletableFuture<>();
    /** `Sec-WebSocket-Extensions` of the hub's answer; the JDK's client does not tell. */
    volatile String extensions = "";

    /** The hub's close frame, or code 1006 and the error if the connection ended without one. */
    record Closed(int code, String reason) {}

    abstract void send(String text);

    abstract void ping(String payload);

    abstract void close(int code, String reason);

    static <T> T take(BlockingQueue<T> queue) throws Exception {
        T taken = queue.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
        if (taken == null) {
            throw new Exception("nothing came within " + PATIENCE_SECONDS + " s");
        }
        return taken;
    }

    Closed awaitClosed() throws Exception {
        return closed.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    }
}
