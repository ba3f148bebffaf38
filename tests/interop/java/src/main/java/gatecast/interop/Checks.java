package gatecast.interop;

/** Prints a line for each check. The first that fails ends the program. */
record Checks(String name) {
    void check(String what, Object found, Object expected) {
        if (!expected.equals(found)) {
            System.out.println("FAIL  " + name + ": " + what + ": expected " + expected + ", found " + found);
            System.exit(1);
        }
        System.out.println("ok    " + name + ": " + what);
    }
}
