package gatecast.interop;

import java.net.URI;

/** A WebSocket library, as the checks use it. */
interface Client {
    /** The library and its version. */
    String name();

    /**
     * Opens a connection to `uri` with `key` in the header `api-key`. Without `trusting`, only the JDK's authorities are trusted.
     *
     * @throws Refused if the answer is not 101; there are other exceptions if there is no answer
     */
    Connection connect(URI uri, String key, boolean trusting) throws Exception;

    /** Makes the checks that concern this library alone. `key` is valid. */
    void checkOwn(Checks checks, URI uri, String key) throws Exception;

    /** The hub's answer was not 101. */
    final class Refused extends Exception {
        final int status;

        Refused(int status) {
            super("refused with " + status);
            this.status = status;
        }
    }
}
