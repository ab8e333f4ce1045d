// A real HDFS on this machine for `make hdfs-test`: one name node, one data node, in the folder that is given. Prints
// its address on a line that begins with "hdfs://" and runs until its input ends, so that it cannot outlive its caller.
//
// Each line of the input is a command: "restart" stops the name node and starts it again, on the same port and with the
// same files, and answers with the address once more.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

public class MiniHdfs {
    public static void main(String[] arguments) throws Exception {
        Configuration settings = new Configuration();
        settings.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, arguments[0]);
        settings.setInt("dfs.replication", 1);
        settings.setBoolean("dfs.permissions.enabled", true);
        // Small, so that one file has several blocks.
        settings.setLong("dfs.blocksize", 1 << 20);
        MiniDFSCluster cluster = new MiniDFSCluster.Builder(settings).numDataNodes(1).build();
        try {
            announce(cluster);
            BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
            for (String command = commands.readLine(); command != null; command = commands.readLine()) {
                if (command.equals("restart")) {
                    cluster.restartNameNode(true);
                    announce(cluster);
                }
            }
        } finally {
            cluster.shutdown(true);
        }
        System.exit(0);
    }

    private static void announce(MiniDFSCluster cluster) throws Exception {
        cluster.waitActive();
        System.out.println("hdfs://127.0.0.1:" + cluster.getNameNodePort());
        System.out.flush();
    }
}
