import java.io.*;
import java.nio.file.*;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.util.*;
import java.util.concurrent.*;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.catalog.*;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.connector.read.*;
import org.apache.spark.sql.connector.write.*;
import org.apache.spark.sql.types.*;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * A catalog whose tables are in the memory of the server and can be merged into: Spark hands a merge the rows of the whole
 * table and takes back all that are to be in it. With the option folder each commit also writes them there, as
 * TABLE/rows.json, for whoever is no client of the server.
 */
public class MergeCatalog implements TableCatalog, SupportsNamespaces {
  static final ConcurrentHashMap<String, T> ALL = new ConcurrentHashMap<>();
  String name;
  static volatile String folder;
  public void initialize(String n, CaseInsensitiveStringMap o) { name = n; folder = o.get("folder"); }
  public String name() { return name; }
  static String key(Identifier i) { return String.join(".", i.namespace()) + "." + i.name(); }
  public Identifier[] listTables(String[] ns) { return ALL.values().stream().map(t -> t.id).toArray(Identifier[]::new); }
  public Table loadTable(Identifier i) throws org.apache.spark.sql.catalyst.analysis.NoSuchTableException {
    T t = ALL.get(key(i)); if (t == null) throw new org.apache.spark.sql.catalyst.analysis.NoSuchTableException(i); return t; }
  public Table createTable(Identifier i, Column[] columns, Transform[] p, Map<String, String> props) {
    T t = new T(); t.id = i; t.columns = columns; t.props = new HashMap<>(props); ALL.put(key(i), t); return t; }
  public Table createTable(Identifier i, TableInfo info) {
    return createTable(i, info.columns(), info.partitions(), info.properties()); }
  public Table alterTable(Identifier i, TableChange... changes) {
    T t = ALL.get(key(i));
    for (TableChange c : changes) {
      if (c instanceof TableChange.SetProperty s) t.props.put(s.property(), s.value());
      else if (c instanceof TableChange.RemoveProperty r) t.props.remove(r.property());
      else System.err.println("ALTER ignored: " + c);
    }
    return t; }
  public boolean dropTable(Identifier i) { return ALL.remove(key(i)) != null; }
  public void renameTable(Identifier a, Identifier b) { throw new UnsupportedOperationException(); }
  public String[][] listNamespaces() { return new String[][]{{"ns"}}; }
  public String[][] listNamespaces(String[] ns) { return new String[0][]; }
  public boolean namespaceExists(String[] ns) { return true; }
  public Map<String, String> loadNamespaceMetadata(String[] ns) { return new HashMap<>(); }
  public void createNamespace(String[] ns, Map<String, String> m) {}
  public void alterNamespace(String[] ns, NamespaceChange... c) {}
  public boolean dropNamespace(String[] ns, boolean cascade) { return true; }

  static class T implements Table, SupportsRead, SupportsWrite, SupportsRowLevelOperations {
    Identifier id; Column[] columns; Map<String, String> props; volatile List<InternalRow> rows = new ArrayList<>();
    public String name() { return key(id); }
    public Column[] columns() { return columns; }
    public StructType schema() { return CatalogV2Util.v2ColumnsToStructType(columns); }
    public Map<String, String> properties() { return props; }
    public Set<TableCapability> capabilities() {
      return EnumSet.of(TableCapability.BATCH_READ, TableCapability.BATCH_WRITE, TableCapability.TRUNCATE, TableCapability.OVERWRITE_BY_FILTER); }
    public ScanBuilder newScanBuilder(CaseInsensitiveStringMap o) { return () -> new S(this); }
    public WriteBuilder newWriteBuilder(LogicalWriteInfo i) { return new W(this, false); }
    public RowLevelOperationBuilder newRowLevelOperationBuilder(RowLevelOperationInfo info) {
      T t = this;
      return () -> new RowLevelOperation() {
        public RowLevelOperation.Command command() { return info.command(); }
        public ScanBuilder newScanBuilder(CaseInsensitiveStringMap o) { return () -> new S(t); }
        public WriteBuilder newWriteBuilder(LogicalWriteInfo i) { return new W(t, true); }
      };
    }
  }
  /** Carries the rows to wherever they are read. */
  static class P implements InputPartition { List<InternalRow> rows; P(List<InternalRow> rows) { this.rows = rows; } }
  static class S implements Scan, Batch {
    T t; S(T t) { this.t = t; }
    public StructType readSchema() { return t.schema(); }
    public Batch toBatch() { return this; }
    public InputPartition[] planInputPartitions() { return new InputPartition[]{new P(new ArrayList<>(t.rows))}; }
    public PartitionReaderFactory createReaderFactory() { return new RF(); }
  }
  static class RF implements PartitionReaderFactory {
    public PartitionReader<InternalRow> createReader(InputPartition p) {
      Iterator<InternalRow> it = ((P) p).rows.iterator();
      return new PartitionReader<>() {
        InternalRow at;
        public boolean next() { if (!it.hasNext()) return false; at = it.next(); return true; }
        public InternalRow get() { return at; }
        public void close() {}
      };
    }
  }
  static class Msg implements WriterCommitMessage { List<InternalRow> rows = new ArrayList<>(); }
  static class W implements WriteBuilder, SupportsTruncate, SupportsOverwrite {
    T t; boolean all; W(T t, boolean all) { this.t = t; this.all = all; }
    public WriteBuilder truncate() { all = true; return this; }
    public WriteBuilder overwrite(org.apache.spark.sql.sources.Filter[] f) { all = true; return this; }
    public Write build() {
      return new Write() { public BatchWrite toBatch() { return new BatchWrite() {
        public DataWriterFactory createBatchWriterFactory(PhysicalWriteInfo i) { return new WF(); }
        public void commit(WriterCommitMessage[] ms) {
          List<InternalRow> rows = all ? new ArrayList<>() : new ArrayList<>(t.rows);
          for (WriterCommitMessage m : ms) if (m != null) rows.addAll(((Msg) m).rows);
          t.rows = rows;
          show(t); }
        public void abort(WriterCommitMessage[] ms) {}
      }; } };
    }
  }
  static class WF implements DataWriterFactory {
    public DataWriter<InternalRow> createWriter(int p, long task) {
      Msg m = new Msg();
      return new DataWriter<>() {
        public void write(InternalRow r) { m.rows.add(r.copy()); }
        public WriterCommitMessage commit() { return m; }
        public void abort() {}
        public void close() {}
      };
    }
  }

  static void show(T t) {
    if (folder == null) return;
    StringBuilder out = new StringBuilder();
    for (InternalRow row : t.rows) { write(row, t.schema(), out); out.append('\n'); }
    try {
      Path table = Files.createDirectories(Paths.get(folder, t.id.name())), next = table.resolve(".next");
      Files.writeString(next, out);
      Files.move(next, table.resolve("rows.json"), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) { throw new UncheckedIOException(e); }
  }
  static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSSX").withZone(ZoneOffset.UTC);
  /** A row as Spark's JSON files have it, as far as tests need types. */
  static void write(InternalRow row, StructType type, StringBuilder out) {
    String between = "{";
    for (int i = 0; i < type.length(); i++) {
      if (row.isNullAt(i)) continue;
      StructField field = type.fields()[i];
      out.append(between).append('"').append(field.name()).append("\":");
      between = ",";
      Object value = row.get(i, field.dataType());
      if (field.dataType() instanceof StructType inner) write((InternalRow) value, inner, out);
      else if (field.dataType() instanceof TimestampType)
        out.append('"').append(TIME.format(Instant.EPOCH.plus((Long) value, java.time.temporal.ChronoUnit.MICROS))).append('"');
      else if (field.dataType() instanceof StringType)
        out.append('"').append(value.toString().replace("\\", "\\\\").replace("\"", "\\\"")).append('"');
      else out.append(value);
    }
    out.append(between.equals("{") ? "{}" : "}");
  }
}
