"""What scores say: tables, statistics, claims, cost, figures, the gallery, export."""
